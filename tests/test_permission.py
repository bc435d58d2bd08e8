import asyncio
import functools
from collections.abc import Callable
from typing import Annotated, Any, assert_type

import pytest
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.authentication import SimpleUser, UnauthenticatedUser
from starlette.websockets import WebSocket

import fastapi_channels
from fastapi_channels import Channel, Connection, action, add_channel
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.permission import (
    ALLOW,
    AllowAny,
    BasePermission,
    IsAuthenticated,
    Permission,
    allows,
    answer,
    as_permission,
    combine,
)
from tests.support import live, wire
from tests.support.names import stable


async def _receive() -> Any: ...
async def _send(event: Any) -> None: ...


WEBSOCKET = WebSocket({"type": "websocket", "headers": []}, _receive, _send)
EXTRAS: dict[str, Any] = {"channel": "room", "connection": object(), "data": {"text": "hi"}}


def ask(permission: Permission, action: str | None = "say", **extras: Any) -> bool:
    """Whether the permission allows. A property test has no event loop of its own, and nothing waits here."""
    asking = allows(as_permission(permission), WEBSOCKET, action, {**EXTRAS, **extras})
    with pytest.raises(StopIteration) as done:
        asking.send(None)
    allowed: bool = done.value.value
    return allowed


class Unlucky(Exception):
    pass


def saying(answer: Any) -> type[BasePermission]:
    """A permission class that gives `answer`, or raises it."""

    class Saying(BasePermission):
        def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    return Saying


class IsMember(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return True


class IsBanned(BasePermission):
    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return False


class Nothing(BasePermission):
    """Answers nothing at all, as a method does that forgot its return."""

    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
        pass


# Answers

ANSWERS: list[tuple[Any, bool]] = [
    *((True, True), (False, False), (None, False), (0, False), (1, False), (1.0, False)),
    *(("yes", False), ("", False), ([True], False), (object(), False), (NotImplemented, False)),
]


@pytest.mark.parametrize(("answer", "allowed"), ANSWERS)
def test_only_true_allows(answer: Any, allowed: bool) -> None:
    async def later(websocket: WebSocket, action: str | None) -> Any:
        return answer

    class Later(BasePermission):
        async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
            return answer

    kinds: list[Permission] = [saying(answer), saying(answer)(), lambda: answer, later, Later, Later()]
    for permission in kinds:
        assert ask(permission) is allowed
        assert ask([permission]) is allowed
        assert ask(AllowAny & as_permission(permission)) is allowed
        assert ask(as_permission(permission) & AllowAny) is allowed
        assert ask(~as_permission(permission)) is (answer is False)
        assert ask(~~as_permission(permission)) is (answer is True)


def test_a_permission_that_says_nothing_refuses() -> None:
    assert ask(BasePermission) is False
    assert ask(Nothing) is False
    assert ask(~Nothing) is False
    assert ask(~(Nothing & AllowAny)) is False
    assert ask(~(Nothing | saying(False))) is False


@pytest.mark.parametrize(
    "permission",
    [
        saying(Unlucky()),
        ~saying(Unlucky()),
        saying(Unlucky()) & AllowAny,
        AllowAny & saying(Unlucky()),
        saying(Unlucky()) | AllowAny,
        ~(saying(Unlucky()) | AllowAny),
        [True, [saying(Unlucky())]],
    ],
)
def test_what_a_permission_raises_is_for_the_caller_who_refuses(permission: Permission) -> None:
    with pytest.raises(Unlucky):
        ask(permission)


def test_what_is_decided_is_not_asked() -> None:
    assert ask(saying(False) & saying(Unlucky())) is False
    assert ask(saying(None) & saying(Unlucky())) is False
    assert ask(saying(True) | saying(Unlucky())) is True
    assert ask([False, saying(Unlucky())]) is False


# Composition

leaves = st.sampled_from([True, False, None, 0, 1])
Tree = Any
trees: st.SearchStrategy[Tree] = st.recursive(
    leaves,
    lambda inner: st.one_of(st.tuples(st.just("~"), inner), st.tuples(st.sampled_from("&|"), inner, inner)),
    max_leaves=8,
)


said = functools.lru_cache(typed=True)(saying)


def build(tree: Tree, leaf: Callable[[Any], Any]) -> Any:
    match tree:
        case ("~", inner):
            return ~build(inner, leaf)
        case ("&", left, right):
            return build(left, leaf) & build(right, leaf)
        case ("|", left, right):
            return build(left, leaf) | build(right, leaf)
        case answer:
            return leaf(answer)


def worth(tree: Tree) -> bool | None:
    """The truth of a tree, None where it is not clear: what is neither True nor False is not clear."""
    match tree:
        case ("~", inner):
            found = worth(inner)
            return None if found is None else not found
        case ("&", left, right):
            found = worth(left)
            return worth(right) if found is True else found
        case ("|", left, right):
            sides = (worth(left), worth(right))
            return True if True in sides else None if None in sides else False
        case True | False as answer:
            return answer if isinstance(answer, bool) else None
        case _:
            return None


def pure(tree: Tree) -> bool:
    return all(map(pure, tree[1:])) if isinstance(tree, tuple) else isinstance(tree, bool)


def truth(tree: Tree) -> bool:
    match tree:
        case ("~", inner):
            return not truth(inner)
        case ("&", left, right):
            return truth(left) and truth(right)
        case ("|", left, right):
            return truth(left) or truth(right)
        case answer:
            return answer


@given(trees, st.sampled_from(["class", "instance"]))
def test_any_composition_allows_what_is_surely_true(tree: Tree, kind: str) -> None:
    def leaf(answer: Any) -> Any:
        return said(answer) if kind == "class" else said(answer)()

    assert ask(build(tree, leaf)) is (worth(tree) is True)


@given(trees.filter(pure))
def test_of_clear_answers_composition_is_the_algebra_of_bools(tree: Tree) -> None:
    assert ask(build(tree, said)) is truth(tree)


@given(trees, trees)
def test_the_order_of_alternatives_does_not_matter(left: Tree, right: Tree) -> None:
    assert ask(build(("|", left, right), said)) is ask(build(("|", right, left), said))
    assert ask(build(("&", left, right), said)) is ask(build(("&", right, left), said))


@given(trees)
def test_nothing_is_allowed_together_with_its_negation(tree: Tree) -> None:
    assert not (ask(build(tree, said)) and ask(build(("~", tree), said)))


OTHERS: list[Any] = [IsBanned, IsBanned(), lambda: False, False, [False], (False,), {False}, [True, [False]]]


@pytest.mark.parametrize("other", OTHERS, ids=stable)
@pytest.mark.parametrize("own", [IsMember, IsMember()], ids=["class", "instance"])
def test_either_side_may_be_anything_that_is_a_permission(own: Any, other: Any) -> None:
    assert ask(own & other) is ask(other & own) is False
    assert ask(own | other) is ask(other | own) is True


@pytest.mark.parametrize("other", OTHERS, ids=stable)
def test_a_class_and_an_instance_that_refuse_do_not_allow_together(other: Any) -> None:
    for own in (IsBanned, IsBanned()):
        assert ask(own | other) is ask(other | own) is False


def test_the_operators_are_typed() -> None:
    assert_type(IsMember & ~IsBanned, BasePermission)
    assert_type(IsMember | IsBanned, BasePermission)
    assert_type(IsMember() & ~IsBanned(), BasePermission)
    assert_type(IsMember & IsBanned() | ~IsMember, BasePermission)
    assert ask(IsMember & ~IsBanned) is True
    assert ask(IsMember() & ~IsBanned()) is True
    assert ask(IsMember & IsBanned() | ~IsMember) is False


# What it is called with


class Recorder(BasePermission):
    """Keeps what it was asked with."""

    def __init__(self) -> None:
        self.asked: list[Any] = []


class TakesNone(Recorder):
    def has_permission(self, websocket: WebSocket, action: str | None) -> bool:
        self.asked = [websocket, action]
        return True


class TakesSome(Recorder):
    def has_permission(
        self, websocket: WebSocket, action: str | None, connection: Any, channel: str = "none"
    ) -> bool:
        self.asked = [websocket, action, connection, channel]
        return True


class TakesAll(Recorder):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        self.asked = [websocket, action, kwargs]
        return True


class TakesNamed(Recorder):
    async def has_permission(
        self, websocket: WebSocket, action: str | None, *, data: Any, **kwargs: Any
    ) -> bool:
        self.asked = [websocket, action, data, kwargs]
        return True


CONNECTION, DATA = EXTRAS["connection"], EXTRAS["data"]


@pytest.mark.parametrize(
    ("permission", "asked"),
    [
        (TakesNone(), [WEBSOCKET, "say"]),
        (TakesSome(), [WEBSOCKET, "say", CONNECTION, "room"]),
        (TakesAll(), [WEBSOCKET, "say", EXTRAS]),
        (TakesNamed(), [WEBSOCKET, "say", DATA, {"channel": "room", "connection": CONNECTION}]),
    ],
)
@pytest.mark.parametrize("composed", [lambda p: p, lambda p: ~~p, lambda p: p & True, lambda p: False | p])
def test_a_method_gets_what_it_declares(permission: Recorder, asked: list[Any], composed: Any) -> None:
    assert ask(composed(permission)) is True
    assert permission.asked == asked


class Static(BasePermission):
    @staticmethod
    def has_permission(websocket: WebSocket, action: str | None) -> bool:
        return action == "say"


class OfClass(BasePermission):
    wanted = "say"

    @classmethod
    def has_permission(cls, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return action == cls.wanted


@pytest.mark.parametrize("permission", [Static, Static(), OfClass, OfClass()])
def test_the_method_may_be_static_or_of_the_class(permission: Permission) -> None:
    assert ask(permission, "say") is True
    assert ask(permission, None) is False


class Friend:
    """A callable object."""

    def __call__(self, websocket: WebSocket, action: str | None) -> bool:
        return action == "say"

    async def later(self, websocket: WebSocket) -> bool:
        return True


def _function(websocket: WebSocket, action: str | None, channel: str, connection: Any, data: Any) -> bool:
    return (websocket, action, channel, connection, data) == (WEBSOCKET, "say", "room", CONNECTION, DATA)


async def _own(websocket: WebSocket, action: str | None, function: Any) -> bool:
    return function is _own


def _keywords(*, data: Any, channel: str) -> bool:
    return (data, channel) == (DATA, "room")


def _everything(*args: Any, **kwargs: Any) -> bool:
    return args == (WEBSOCKET, "say", _everything) and kwargs == EXTRAS


def _positional(websocket: WebSocket, /, action: str | None) -> bool:
    return (websocket, action) == (WEBSOCKET, "say")


def _defaults(websocket: WebSocket, action: str | None, function: Any = None, extra: int = 7) -> bool:
    return extra == 7


def _flag(wanted: bool, websocket: WebSocket) -> bool:
    return wanted and websocket is WEBSOCKET


@pytest.mark.parametrize(
    "function",
    [
        *(_function, _own, _keywords, _everything, _positional, _defaults, Friend(), Friend().later),
        *(lambda: True, lambda ws: ws is WEBSOCKET, lambda ws, action: action == "say"),
        *(lambda ws, *args: len(args) == 2, lambda **kwargs: kwargs == EXTRAS),
        functools.partial(_flag, True),
    ],
)
def test_a_function_gets_as_much_as_it_takes(function: Callable[..., Any]) -> None:
    assert ask(function) is True
    assert ask(IsMember & function) is True
    assert ask([True, function]) is True


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda a, b, c, d: True, "d"),
        (lambda ws, *, user: True, "user"),
        (lambda ws, channel, action: True, "channel"),
        (lambda data, /: True, "data"),
    ],
)
def test_a_function_that_cannot_be_called_is_told_at_once(function: Callable[..., Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the permission .*<lambda> cannot be called: .*'{name}'"):
        as_permission(function)


def _something() -> str:
    return "something"


def test_a_class_that_cannot_be_called_is_told_when_it_is_used() -> None:
    def has_permission(
        self: Any, thing: Annotated[str, Depends(_something)], websocket: Any, action: Any
    ) -> bool:
        return True

    TooEarly: Any = type("TooEarly", (BasePermission,), {"has_permission": has_permission})
    told = r"TooEarly.has_permission cannot be called: .*'thing'; it is given first websocket"
    for use in (
        lambda: as_permission(TooEarly),
        lambda: as_permission([TooEarly()]),
        lambda: IsMember & TooEarly,
    ):
        with pytest.raises(ConfigurationError, match=told):
            use()


def test_an_action_is_none_while_connecting() -> None:
    assert ask(lambda ws, action: action is None, None) is True


# What is a permission


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        *((None, True), (True, True), (False, False), ([], True), ((), True)),
        *(([True], True), ([False], False), ([True, False], False), ([[], [True, (True,)]], True)),
        *(
            ({True}, True),
            (frozenset({False}), False),
            ([None, AllowAny], True),
            ([IsMember, ~IsBanned], True),
        ),
    ],
)
def test_values_that_stand_for_permissions(value: Permission, allowed: bool) -> None:
    assert ask(value) is allowed


def test_an_instance_stands_for_itself() -> None:
    permission = IsMember()
    assert as_permission(permission) is permission
    assert as_permission([permission]) is permission


@pytest.mark.parametrize("value", ["IsMember", b"", 0, 1, 1.5, object(), {}, {"a": True}, int, Friend, dict])
def test_what_is_no_permission_is_told_at_once(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"expected a permission .* got "):
        as_permission(value)
    with pytest.raises(ConfigurationError):
        _ = IsMember & value


# Those that come with it


@pytest.mark.parametrize(
    ("user", "allowed"),
    [
        *((None, False), ("ada", True), (7, True), (object(), True)),
        *((SimpleUser("ada"), True), (UnauthenticatedUser(), False)),
        *(
            (type("Odd", (), {"is_authenticated": 1})(), False),
            (type("Old", (), {"is_authenticated": print})(), False),
        ),
    ],
)
def test_is_authenticated(user: Any, allowed: bool) -> None:
    connection = type("Stranger", (), {"user": user})()
    assert ask(IsAuthenticated, connection=connection) is allowed
    assert ask(~IsAuthenticated, connection=connection) is not allowed
    websocket = WebSocket({"type": "websocket", "headers": [], "user": user}, _receive, _send)
    assert IsAuthenticated().has_permission(websocket, None) is allowed


def test_allow_any() -> None:
    assert ask(AllowAny) is ask(AllowAny()) is True
    assert ask(~AllowAny) is False


def test_combining_leaves_out_what_allows_everybody() -> None:
    member = IsMember()
    assert combine() is ALLOW
    assert combine(None, True, AllowAny, AllowAny()) is ALLOW
    assert combine(None, member, AllowAny) is member
    assert ask(combine(IsMember, IsBanned)) is False
    assert ask(combine(IsMember, ~IsBanned, [])) is True


class Choosy(AllowAny):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return False


def test_combining_keeps_what_only_inherits_from_allow_any() -> None:
    assert ask(combine(Choosy)) is False


class ByType(BasePermission):
    def has_permission(self, websocket: Any, action: str | None, me: "Connection") -> bool:
        return isinstance(me, Connection) and me.user == "ada"


class ByTypeAndMore(BasePermission):
    async def has_permission(
        self, websocket: Any, action: str | None, who: Connection[str], **kwargs: Any
    ) -> bool:
        return who is kwargs["connection"] and who.user == "ada"


class ByTypePerhaps(BasePermission):
    def has_permission(
        self, websocket: Any, action: str | None, *, me: "Connection | None" = None, **kwargs: Any
    ) -> bool:
        return me is not None and me.user == "ada"


async def by_type(me: Connection) -> bool:
    return me.user == "ada"


async def by_type_with_more(me: Annotated[Connection, "more"]) -> bool:
    return me.user == "ada"


def by_type_behind(websocket: Any, action: str | None, me: fastapi_channels.Connection) -> bool:
    return me.user == "ada"


@pytest.mark.parametrize(
    "permission",
    [
        *(ByType, ByTypeAndMore, ByTypePerhaps, by_type, by_type_with_more, by_type_behind),
        ~~as_permission(ByType),
    ],
)
async def test_a_parameter_of_the_type_gets_the_connection_whatever_its_name(permission: Any):
    class Room(Channel):
        permission_classes = [permission]

    async with wire.serving(Room()) as app:
        async with wire.dial(app, "/lobby?user=ada"):
            pass
        async with wire.dialing(app, "/lobby?user=bob") as bob:
            await bob.ended()
            assert "accept" not in bob.events


# Dependencies


async def _staff(websocket: WebSocket) -> bool:
    return ("x-staff", "yes") in websocket.headers.items()


def _knows(staff: "Annotated[bool, Depends(_staff)]", data: dict[str, Any]) -> bool:
    return staff and data == {"text": "hi"}


class IsStaff(BasePermission):
    def has_permission(
        self, websocket: WebSocket, action: str | None, staff: Annotated[bool, Depends(_staff)], **kwargs: Any
    ) -> bool:
        return staff


class IsLateStaff(IsStaff):
    async def has_permission(
        self, websocket: WebSocket, action: str | None, *, staff: Annotated[bool, Depends(_staff)]
    ) -> bool:
        return staff


STAFF = WebSocket({"type": "websocket", "headers": [(b"x-staff", b"yes")]}, _receive, _send)


@pytest.mark.parametrize(
    "permission",
    [IsStaff, IsLateStaff, _knows, IsMember & IsStaff, ~~IsStaff | IsLateStaff, [_knows, IsStaff]],
)
def test_a_permission_may_depend(permission: Permission) -> None:
    def asked(websocket: WebSocket) -> bool:
        return asyncio.run(allows(as_permission(permission), websocket, "say", EXTRAS))

    assert asked(STAFF) is True
    assert asked(WEBSOCKET) is False
    assert asyncio.run(answer(~as_permission(permission), WEBSOCKET, None, EXTRAS)) is True


async def test_a_composed_permission_may_be_asked_by_hand() -> None:
    both: Any = IsMember & IsStaff
    assert await both.has_permission(STAFF, None, connection=object()) is True
    assert await both.has_permission(WEBSOCKET, None) is False


@pytest.mark.parametrize("permission", [ByType, by_type, by_type_behind])
async def test_it_lets_in_whom_it_means_and_nobody_else(permission: Any):
    """For the handshake and for an action: called without the connection, it would refuse everybody."""

    class Room(Channel):
        permission_classes = [permission]

        @action(permission=permission)
        async def look(self) -> str:
            return "seen"

    app, room = FastAPI(), Room()
    add_channel(app)

    @app.websocket("/{user}")
    async def endpoint(websocket: WebSocket, user: str) -> None:
        await room.connect(websocket, "lobby", user=user)

    async with live.serving(app) as site:
        async with site.connect("/ada") as ada:
            assert (await ada.call("look"))["data"] == "seen"
        refusal = await site.refusal("/bob")
        assert (refusal.status, refusal.body["code"]) == (403, "permission_denied")
