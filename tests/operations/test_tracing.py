"""How tracing is asked for."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider

from fastapi_channels import ConfigurationError, Tracing, add_channel
from fastapi_channels.operations.spans import Spans
from tests.support.wire import node_of


def test_it_is_off_unless_it_is_asked_for():
    assert node_of(add_channel(FastAPI())).observers.acting == ()


@pytest.mark.parametrize("given", [True, Tracing(), Tracing(TracerProvider())])
def test_true_or_a_tracing_asks_for_it(given: Any):
    (acting,) = node_of(add_channel(FastAPI(), tracing=given)).observers.acting
    assert isinstance(acting.__self__, Spans)  # type: ignore[attr-defined]  # a method


@pytest.mark.parametrize("given", ["yes", None, 1, TracerProvider(), Tracing])
def test_anything_else_is_refused_by_name(given: Any):
    with pytest.raises(ConfigurationError, match=r"tracing= takes True, or a Tracing\(…\)"):
        add_channel(FastAPI(), tracing=given)


@pytest.mark.parametrize("given", [True, "yes", TracerProvider])
def test_a_provider_must_be_one(given: Any):
    with pytest.raises(ConfigurationError, match="takes a TracerProvider"):
        Tracing(given)


def test_without_opentelemetry_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "fastapi_channels.operations.spans", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"fastapi-channels\[tracing\]"):
        add_channel(FastAPI(), tracing=True)
