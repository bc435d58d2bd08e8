/** What `fastapi-channels typescript` writes, as far as a client goes by it. */

type Fields = Record<string, unknown>;
/** What stands in an address. */
export type Places = Record<string, string | number>;

/** A channel of which nothing is known: every name is allowed, and all data is unknown. */
export interface AnyWords {
  actions: { [name: string]: { payload: Fields; reply: unknown; item: unknown; error: string } };
  events: { [name: string]: unknown };
  calls: { [name: string]: { data: unknown; answer: unknown } };
  presence: unknown;
}

/** An application of which nothing is known. */
export interface AnyChannels {
  any: AnyWords & { address: string; parameters: Places; query?: Record<string, string> };
  many: { address: string; parameters: Places; rooms: [AnyWords & { room: string }] };
}

type Each<C> = C[keyof C];
/** The channels with one room for each WebSocket. */
type Single<C> = Exclude<Each<C>, { rooms: unknown }>;
/** Those that lead to many. */
type Many<C> = Extract<Each<C>, { rooms: unknown }>;
type Address<S> = S extends { address: infer A extends string } ? A : never;

export type RoomAddress<C> = Address<Single<C>>;
export type SocketAddress<C> = Address<Many<C>>;
type At<S, A> = S extends { address: infer X } ? (A extends X ? S : never) : never;
export type RoomAt<C, A> = At<Single<C>, A>;
export type SocketAt<C, A> = At<Many<C>, A>;

/** The parameters of an address: left out where it has none. */
export type Parameters_<S, Options> = S extends { parameters: infer P }
  ? {} extends P ? [parameters?: Places, options?: Options] : [parameters: P, options?: Options]
  : [];

type RoomsOf<S> = S extends { rooms: infer R extends unknown[] } ? R : never;
type First<R, N> = R extends [infer W extends { room: string }, ...infer Rest]
  ? (N extends W["room"] ? W : First<Rest, N>)
  : never;
/** The names of the rooms of a socket. */
export type RoomName<S> = Extract<RoomsOf<S>[number], { room: string }>["room"];
/** What is said in the room of that name: the first channel that fits has it. */
export type WordsOf<S, N> = First<RoomsOf<S>, N>;

type ActionsOf<W> = W extends { actions: infer A } ? A : never;
type EventsOf<W> = W extends { events: infer E } ? E : never;
type CallsOf<W> = W extends { calls: infer C } ? C : never;

/** Actions that reply once. */
export type ActionName<W> = Has<W, "reply">;
/** Those that stream. */
export type StreamName<W> = Has<W, "item">;
export type EventName<W> = Extract<keyof EventsOf<W>, string>;
export type CallName<W> = Extract<keyof CallsOf<W>, string>;

type Has<W, K extends string> = Extract<{
  [N in keyof ActionsOf<W>]: [Member<ActionsOf<W>[N], K>] extends [never] ? never : N;
}[keyof ActionsOf<W>], string>;
type Member<T, K extends string> = T extends { [key in K]: infer V } ? V : never;
type ActionOf<W, N> = N extends keyof ActionsOf<W> ? ActionsOf<W>[N] : never;

export type Payload<W, N> = Member<ActionOf<W, N>, "payload">;
/** What `call` resolves with: null where an action replies with nothing. */
export type Reply<W, N> = [Member<ActionOf<W, N>, "reply">] extends [never] ? null : Member<ActionOf<W, N>, "reply">;
export type Item<W, N> = Member<ActionOf<W, N>, "item">;
export type Code<W, N> = Extract<Member<ActionOf<W, N>, "error">, string>;
export type EventData<W, N> = N extends keyof EventsOf<W> ? EventsOf<W>[N] : never;
export type Asked<W, N> = N extends keyof CallsOf<W> ? Member<CallsOf<W>[N], "data"> : never;
export type Answer<W, N> = N extends keyof CallsOf<W> ? Member<CallsOf<W>[N], "answer"> : never;

/** What is said of who is in the room; `never` where its members do not see each other. */
export type Shown<W> = Member<W, "presence">;

/** An action that can be repeated, because it acts once for each request. */
export type Repeatable<W, N> = "in_progress" extends Code<W, N> ? true : string extends Code<W, N> ? true : false;

/** A payload may be left out where none of its fields must be there. */
export type Given<P, Options> = {} extends P ? [payload?: P, options?: Options] : [payload: P, options?: Options];
