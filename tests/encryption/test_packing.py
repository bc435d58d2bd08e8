from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.encryption.cipher import Cipher
from fastapi_channels.encryption.packing import SealedPacking
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.packing import PLAIN, SEALED, Unreadable

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
publications = st.builds(
    Publication,
    texts,
    st.one_of(texts, st.binary(max_size=50)),
    st.frozensets(texts, max_size=3),
    texts,
    st.lists(texts, max_size=3).map(tuple),
    st.one_of(st.just(""), st.from_regex("[0-9a-z]{1,8}:[0-9]{1,8}", fullmatch=True)),
)
sealed = SealedPacking(Cipher([Fernet.generate_key().decode()]))


@given(publications)
def test_a_publication_survives_the_way_through_a_broker(publication: Publication):
    text = sealed.pack(publication)
    assert sealed.unpack(publication.topic, text) == publication
    assert sealed.unpack(publication.topic, text.encode()) == publication


@given(publications)
def test_who_does_not_know_the_position_yet_packs_around_it(publication: Publication):
    head, tail = sealed.around(publication)
    assert sealed.unpack(publication.topic, f"{head}{publication.position}{tail}") == publication


def test_nothing_but_the_position_can_be_read():
    publication = Publication("room", "hello", frozenset({"ada"}), "user", ("bob",), "k:7")
    text = sealed.pack(publication)
    assert text.startswith(f"{SEALED}k:7\n")
    for word in ("hello", "ada", "user", "bob", "exclude"):
        assert word not in text


@given(publications)
def test_what_is_not_encrypted_is_not_taken(publication: Publication):
    with pytest.raises(Unreadable, match="not encrypted"):
        sealed.unpack(publication.topic, PLAIN.pack(publication))


@given(st.one_of(texts.map(SEALED.__add__), st.binary(), st.binary().map(SEALED.encode().__add__)))
def test_what_a_stranger_writes_is_unreadable_and_no_more(text: str | bytes):
    with pytest.raises(Unreadable):
        sealed.unpack("room", text)


def test_what_was_said_in_one_room_cannot_be_repeated_in_another():
    with pytest.raises(Unreadable, match="for another place"):
        sealed.unpack("there", sealed.pack(Publication("here", "hello")))
