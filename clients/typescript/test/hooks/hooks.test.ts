/** React and Vue: in strict mode, and where a server renders. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Window } from "happy-dom";
import type { FunctionComponent } from "react";

import { World } from "../fake.ts";

const window = new Window();
Object.assign(globalThis, { window, document: window.document, IS_REACT_ACT_ENVIRONMENT: true });
for (const name of ["Element", "HTMLElement", "HTMLIFrameElement", "SVGElement", "MathMLElement", "Node", "ShadowRoot"]) {
  (globalThis as any)[name] = (window as any)[name];
}
const { StrictMode, act, createElement } = await import("react");
const { createRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const inReact = await import("../../src/react.ts");
const vue = await import("vue");
const vueServer = await import("vue/server-renderer");
const inVue = await import("../../src/vue.ts");

function welcoming() {
  const world = new World();
  world.arrives = (socket) => socket.welcome();
  const client = world.client();
  const heard: unknown[] = [];
  return { world, heard, join: (channel: string) => client.room("/rooms/{channel}", { channel }) };
}

const ann = { type: "presence", version: 1, present: [{ id: "a", user: "ann", data: null }] };
const said = (data: string) => ({ type: "event", event: "said", channel: "x", data });
const rooms = (world: World) => world.open.map(({ url }) => url.split("/").at(-1));

function body() {
  return document.body.appendChild(document.createElement("div"));
}

test("React: strict mode leaves one room, another channel another room, and the end none", async () => {
  const { world, heard, join } = welcoming();
  const Lobby: FunctionComponent<{ channel: string; loud?: boolean }> = ({ channel, loud }) => {
    const room = inReact.useRoom(() => join(channel), [channel]);
    const { people } = inReact.usePresence(room);
    inReact.useEvent(room, "said", (data) => heard.push(loud ? String(data).toUpperCase() : data));
    return createElement("p", null, `${inReact.useRoomState(room)}: ${people.map(({ user }) => user).join()}`);
  };
  const page = (channel: string, loud = false) => createElement(StrictMode, null, createElement(Lobby, { channel, loud }));
  const element = body();
  const root = createRoot(element);
  await act(async () => root.render(page("a")));
  assert.deepEqual([rooms(world), element.textContent], [["a"], "joining: "]);
  await act(() => world.clock.pass(2_000));
  await act(async () => world.socket.say(ann));
  assert.equal(element.textContent, "joined: ann");
  world.socket.say(said("one"));
  await act(async () => root.render(page("a", true)));
  world.socket.say(said("two"));
  assert.deepEqual([heard, world.sockets.length], [["one", "TWO"], 1], "a new listener joins nothing anew");
  for (let count = 0; count < 1_000; count++) world.socket.say(said("many"));
  assert.equal(heard.splice(2).length, 1_000, "events of one turn are not one");
  await act(async () => root.render(page("b")));
  await act(() => world.clock.pass(2_000));
  assert.deepEqual([rooms(world), element.textContent], [["b"], "joined: "]);
  await act(async () => world.socket.shut(1006));
  assert.equal(element.textContent, "joining: ");
  await act(async () => root.unmount());
  assert.deepEqual([world.open.length, world.clock.pending], [0, 0]);
});

test("React: a server that renders joins nothing", () => {
  const { world, join } = welcoming();
  const Lobby = () => {
    const room = inReact.useRoom(() => join("a"), []);
    return createElement("p", null, `${inReact.useRoomState(room)} ${inReact.usePresence(room).people.length}`);
  };
  assert.equal(renderToString(createElement(Lobby)), "<p>joining 0</p>");
  assert.equal(world.sockets.length, 0);
});

function lobby({ heard, join }: ReturnType<typeof welcoming>) {
  return vue.defineComponent({
    props: { channel: { type: String, required: true } },
    setup(props) {
      const { room, state, presence } = inVue.useRoom(() => join(props.channel));
      inVue.useEvent(room, "said", (data) => heard.push(data));
      return () => vue.h("p", `${state.value}: ${presence.value.people.map(({ user }) => user).join()}`);
    },
  });
}

test("Vue: another channel is another room, and the end none", async () => {
  const told = welcoming();
  const { world, heard } = told;
  const channel = vue.ref("a");
  const Lobby = lobby(told);
  const app = vue.createApp({ render: () => vue.h(Lobby, { channel: channel.value }) });
  const element = body();
  app.mount(element as any);
  await vue.nextTick();
  await world.clock.pass(2_000);
  world.socket.say(ann);
  world.socket.say(said("one"));
  await vue.nextTick();
  assert.deepEqual([rooms(world), element.textContent, heard], [["a"], "joined: ann", ["one"]]);
  for (let count = 0; count < 1_000; count++) world.socket.say(said("many"));
  assert.equal(heard.splice(1).length, 1_000);
  channel.value = "b";
  await vue.nextTick();
  await world.clock.pass(2_000);
  world.socket.say(said("two"));
  await vue.nextTick();
  assert.deepEqual([rooms(world), element.textContent, heard], [["b"], "joined: ", ["one", "two"]]);
  app.unmount();
  assert.deepEqual([world.open.length, world.clock.pending], [0, 0]);
});

test("Vue: a server that renders joins nothing", async () => {
  const told = welcoming();
  assert.equal(await vueServer.renderToString(vue.createSSRApp(lobby(told), { channel: "a" })), "<p>joining: </p>");
  assert.equal(told.world.sockets.length, 0);
});
