import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.packing import BARE, MARK, PLAIN, SEALED, Unreadable

pack, unpack = PLAIN.pack, PLAIN.unpack
# Unicode text: what JSON and brokers carry, which a lone surrogate is not.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
marked = st.builds(str.__add__, st.sampled_from((MARK, SEALED)), texts)
bodies = st.one_of(texts, st.binary(max_size=50), marked)
ids = st.frozensets(texts, max_size=3)
publications = st.builds(
    Publication, st.just("room"), bodies, ids, texts, for_each=texts, traceparent=texts, tracestate=texts
)


@given(publications)
def test_a_publication_survives_the_way_through_a_broker(publication: Publication) -> None:
    wire = pack(publication)
    assert unpack("room", wire) == publication
    assert unpack("room", wire.encode()) == publication


@given(texts.filter(lambda text: not text.startswith((MARK, SEALED))))
def test_a_plain_text_is_on_the_wire_as_it_is(body: str) -> None:
    assert pack(Publication("room", body)) == body


@given(bodies)
def test_a_body_cannot_pose_as_more_than_a_body(body: Body) -> None:
    """What a client says is relayed: it must not choose who is left out, or speak for the cluster."""
    if isinstance(body, str):
        body = MARK + json.dumps({"kind": "cluster", "exclude": ["a"]}) + "\n" + body
    assert unpack("room", pack(Publication("room", body))) == Publication("room", body)


@given(st.one_of(texts, st.builds(MARK.__add__, texts), st.binary()))
@example(MARK)
@example(MARK + "\n")
@example(MARK + "{}")
@example(MARK + "[]\nbody")
@example(MARK + "null\nbody")
@example(MARK + "{\nbody")
@example(MARK + '{"exclude": 7}\nbody')
@example(MARK + '{"exclude": [[]]}\nbody')
@example(MARK + '{"encoding": "base64"}\n???')
@example(MARK + '{"encoding": "base64"}\né')
@example(MARK + "[" * 100_000 + "\nbody")
@example(MARK + "9" * 5000 + "\nbody")
@example(MARK + '"\ud800"\nbody')
@example("\ud800")
@example(b"\xff")
@example(MARK.encode() + b"\xff\nbody")
def test_what_a_stranger_writes_never_fails(wire: str | bytes) -> None:
    publication = unpack("room", wire)
    assert publication.topic == "room"
    assert isinstance(publication.body, str | bytes)


@pytest.mark.parametrize(
    "header", ["", "{", "[]", "null", "7", '{"exclude": 7}', '{"exclude": [[]]}', '{"encoding": "base64"}']
)
def test_a_header_that_cannot_be_read_makes_a_bare_body(header: str) -> None:
    wire = f"{MARK}{header}\n???"
    assert unpack("room", wire) == Publication("room", wire)


def test_the_forms_on_the_wire() -> None:
    """Fixed: processes of two versions may share a broker."""
    assert pack(Publication("r", "hi")) == "hi"
    assert (
        pack(Publication("r", b"hi")) == f'{MARK}{{"encoding":"base64"}}\n{base64.b64encode(b"hi").decode()}'
    )
    assert pack(Publication("r", "hi", frozenset("ba"))) == f'{MARK}{{"exclude":["a","b"]}}\nhi'
    assert pack(Publication("r", "hi", kind="user", to=("a",))) == f'{MARK}{{"kind":"user","to":["a"]}}\nhi'
    assert pack(Publication("r", "hi", kind="user")) == f'{MARK}{{"kind":"user"}}\nhi'
    assert pack(Publication("r", MARK)) == f"{MARK}{{}}\n{MARK}"
    assert unpack("r", f'{MARK}{{"later":1,"kind":"user"}}\nhi') == Publication("r", "hi", kind="user")


def test_a_publication_keeps_its_position() -> None:
    publication = Publication("r", "hi", position="k:7")
    assert unpack("r", pack(publication)) == publication


@given(bodies, ids, st.text(alphabet="0123456789abcdef:", min_size=1))
def test_who_does_not_know_the_position_yet_packs_around_it(
    body: Body, exclude: frozenset[str], position: str
) -> None:
    publication = Publication("r", body, exclude, position=position)
    head, tail = PLAIN.around(publication)
    assert head + position + tail == pack(publication)
    assert unpack("r", head + position + tail) == publication


def test_what_is_encrypted_is_not_taken_for_a_text() -> None:
    for text in (f"{SEALED}\nabc", f"{SEALED}k:7\nabc".encode()):
        with pytest.raises(Unreadable, match="encryption_keys= was not given here"):
            unpack("room", text)


@given(bodies)
def test_a_bare_body_is_all_that_travels(body: Body):
    assert BARE.pack(Publication("topic", body, kind="group", to=("a",))) == body
    assert BARE.unpack("topic", body) == Publication("topic", body)
