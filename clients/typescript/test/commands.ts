/** A client that is driven from elsewhere: commands come in, and what happens is told. */

import { withFallback } from "../src/fallback.ts";
import { createClient } from "../src/index.ts";

export function driven(url: string, tell: (what: object) => void): (command: any) => void {
  const options = {
    times: { first: 100, most: 1_000, gap: 100, rejoin: 100, call: 20_000, connect: 60_000 },
    onError: (error: unknown) => tell({ fault: String(error) }),
  };
  const client = createClient(url, options);
  let tokens = 0;
  const webSocket = withFallback({ times: { patience: 500, again: 300, most: 600, linger: 400 } });
  const token = () => `t${++tokens}`;
  const clients: Record<string, typeof client> = {
    plain: client,
    signedIn: createClient(url, { ...options, token }),
    fallback: createClient(url, { ...options, webSocket }),
    unusable: createClient(url, { ...options, token: () => "a\n" }),
    both: createClient(url, { ...options, token, webSocket }),
  };
  const rooms = new Map<string, any>();
  const sockets = new Map<string, any>();
  const feeds = new Map<string, any>();

  const outcome = (error: any) => ({ error: error.code || error.name });

  const commands: Record<string, (said: any) => unknown> = {
    room({ id, address, parameters, socket, name, token, by = token ? "signedIn" : "plain" }) {
      const room = socket === undefined
        ? clients[by]!.room(address, parameters)
        : sockets.get(socket).room(name);
      rooms.set(id, room);
      room.on("said", (data: unknown) => tell({ id, said: data }));
      room.onGap(({ reason }: any) => tell({ id, gap: reason }));
      room.onState((state: string) => tell({ id, state, ...(room.refusal && { code: room.refusal.code }) }));
      room.onPresence(() => tell({ id, present: room.presence.people.length }));
      room.answer("confirm", async (data: any) => data.question.length);
    },
    socket: ({ id, address, by = "plain" }) => {
      const socket = clients[by]!.socket(address);
      sockets.set(id, socket);
      socket.own.onState(() => tell({ id, state: socket.own.state, code: socket.own.refusal?.code ?? "" }));
    },
    close: ({ id }) => sockets.get(id).close(),
    /* Ask for a room of a socket that may be closed. */
    again({ socket, name, as }) {
      try {
        sockets.get(socket).room(name);
        tell({ as });
      } catch (error: any) {
        tell({ as, error: error.message });
      }
    },
    /* Those of a room until it is over. */
    async events({ id, as }) {
      const items: unknown[] = [];
      try {
        for await (const data of rooms.get(id).events("said")) items.push(data);
        tell({ as, items });
      } catch (error: any) {
        tell({ as, items, error: error.name });
      }
    },
    async call({ id, as, action, payload, retry }) {
      try {
        tell({ as, reply: await rooms.get(id).call(action, payload, { retry }) });
      } catch (error) {
        tell({ as, ...outcome(error) });
      }
    },
    async stream({ id, as, action, payload, most, window }) {
      const items: unknown[] = [];
      try {
        for await (const item of rooms.get(id).stream(action, payload, { window })) {
          items.push(item);
          if (items.length === most) break;
        }
        tell({ as, items });
      } catch (error) {
        tell({ as, items, ...outcome(error) });
      }
    },
    /* A stream that is taken by the command `take`. */
    open: ({ id, action, payload, window }) => { feeds.set(id, rooms.get(id).stream(action, payload, { window })); },
    async take({ id, as, count }) {
      const items: unknown[] = [];
      while (items.length < count) items.push((await feeds.get(id).next()).value);
      tell({ as, items });
    },
    async history({ id, as, ...how }) {
      const pages: unknown[] = [];
      for await (const { items } of rooms.get(id).history(how)) pages.push(items.map(({ data }: any) => data.text));
      tell({ as, pages });
    },
    leave: ({ id }) => rooms.get(id).leave(),
  };

  return ({ do: name, ...said }) => void commands[name]!(said);
}
