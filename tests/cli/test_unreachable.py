"""A Hub that cannot be reached is told from one that answers, whichever library met it."""

from types import SimpleNamespace

import aiohttp
import pytest
import requests
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, XetDownloadError

from hf_reason._network import why_unreachable
from hf_reason.cli.errors import run
from hf_reason.cli.inputs.models import cannot_load
from hf_reason.cli.pushing import pushing


def hub_error(status: int, reason: str = "") -> HfHubHTTPError:
    response = SimpleNamespace(status_code=status, reason_phrase=reason, headers={}, request=None)
    return HfHubHTTPError("no", response=response)


def raised_from(cause: Exception, error: Exception, explicit: bool = True) -> Exception:
    """`error` as a library raises it: from the cause, or while it handles the cause."""
    try:
        try:
            raise cause
        except Exception as inner:
            if explicit:
                raise error from inner
            raise error  # noqa: B904
    except Exception as found:
        return found


def connection_errors() -> list[Exception]:
    library = type(hub_error(500)).__mro__[1].__module__.split(".")[0]
    module = pytest.importorskip(library)
    cut = [requests.exceptions.ChunkedEncodingError("refused"), aiohttp.ClientPayloadError("refused")]
    return [module.ConnectError("refused"), requests.ConnectionError("refused"), *cut, XetDownloadError("refused")]


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("hidden", [OSError, RuntimeError, LocalEntryNotFoundError])
def test_the_cause_is_found_behind_another_error(hidden, explicit):
    for cause in connection_errors():
        error = raised_from(raised_from(cause, ValueError("inner")), hidden("check the name"), explicit)
        assert why_unreachable(error) == f"{type(cause).__name__}: refused"
    error = raised_from(hub_error(503, "Service Unavailable"), hidden("check the name"), explicit)
    assert why_unreachable(error) == "HTTP 503 Service Unavailable"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_hub_that_refuses_was_reached(status):
    assert why_unreachable(raised_from(hub_error(status), OSError("no such model"))) is None


@pytest.mark.parametrize("error", [OSError("disk"), ValueError("x"), FileNotFoundError("y"), KeyError("z")])
def test_other_errors_are_not_of_the_network(error):
    assert why_unreachable(error) is None


def test_a_command_ends_in_one_line(capsys):
    for error in connection_errors():

        def work(error: Exception = error) -> int:
            raise error

        assert run(work) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_line_of_a_model_names_the_network_and_not_the_name(tmp_path):
    error = raised_from(
        hub_error(429, "Too Many Requests"), OSError("make sure that you have a file pytorch_model.bin")
    )
    line = cannot_load("model_name_or_path", "me/model", error)
    assert "there is no such folder, and the Hub cannot be reached: HTTP 429 Too Many Requests." in line
    assert "pytorch_model" not in line
    assert "no such folder" in cannot_load("model_name_or_path", "me/model", OSError("offline"))
    assert "Hub" not in cannot_load("model_name_or_path", str(tmp_path), error)


@pytest.mark.parametrize("error", [RuntimeError("Error while uploading"), hub_error(500), OSError("x")])
def test_a_push_that_fails_says_that_the_run_is_finished(error):
    with (
        pytest.raises(ValueError, match=r"outputs/mine is finished, but was not pushed to me/mine: .*\. The same"),
        pushing("outputs/mine", "me/mine"),
    ):
        raise error
