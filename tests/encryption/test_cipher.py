from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels import Publisher
from fastapi_channels.encryption import encryption_by
from fastapi_channels.encryption.cipher import Cipher
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.packing import Unreadable
from tests.support.environments import without

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


@given(st.text(), st.binary())
def test_what_is_sealed_is_opened_with_any_of_the_keys(what: str, content: bytes):
    token = Cipher([OLD]).seal(what, content)
    for keys in ([OLD], [NEW, OLD], [OLD, NEW]):
        assert Cipher(keys).open(what, token) == content


@given(st.text(), st.text(), st.binary())
def test_it_is_opened_in_no_other_place(here: str, there: str, content: bytes):
    cipher = Cipher([OLD])
    if here != there:
        with pytest.raises(Unreadable, match="for another place"):
            cipher.open(there, cipher.seal(here, content))


@pytest.mark.parametrize("token", ["", "?", "gAAAAA", "\ud800", "\x00", "é"])
def test_what_is_no_token_is_not_opened(token: str):
    with pytest.raises(Unreadable, match="with none of encryption_keys="):
        Cipher([OLD]).open("here", token)


def test_the_first_key_encrypts():
    token = Cipher([NEW, OLD]).seal("here", b"text")
    assert Cipher([NEW]).open("here", token) == b"text"
    with pytest.raises(Unreadable, match="with none of encryption_keys="):
        Cipher([OLD, OTHER]).open("here", token)


def test_a_byte_that_was_changed_is_noticed():
    cipher = Cipher([OLD])
    token = cipher.seal("here", b"text")
    middle = len(token) // 2
    changed = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    with pytest.raises(Unreadable):
        cipher.open("here", changed)


def test_keys_are_a_list_or_a_text_with_commas():
    token = Cipher([OLD]).seal("here", b"text")
    assert Cipher(f"{NEW}, {OLD}".split(",")).open("here", token) == b"text"
    packing = encryption_by(f"{NEW}, {OLD}").packing
    assert type(packing) is type(encryption_by([NEW]).packing) is not type(encryption_by(None).packing)


@pytest.mark.parametrize(
    ("keys", "place"),
    [("", 0), ([], 0), ("hunter2", 0), ([OLD, "hunter2"], 1), ([None], 0)],
)
def test_what_is_no_key_is_not_shown(keys: list[str] | str, place: int):
    with pytest.raises(ConfigurationError, match=rf"encryption_keys\[{place}\] is no key") as caught:
        encryption_by(keys)
    assert "hunter2" not in str(caught.value)
    assert OLD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_keys_are_not_shown():
    cipher = Cipher([OLD])
    assert OLD not in repr(cipher) + str(vars(cipher))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    without("cryptography", "encryption.cipher", monkeypatch)
    told = r"encryption_keys= needs the package 'cryptography': pip install fastapi-channels\[encryption\]"
    with pytest.raises(ConfigurationError, match=f"^{told}$"):
        Publisher("redis://localhost", encryption_keys="x")
