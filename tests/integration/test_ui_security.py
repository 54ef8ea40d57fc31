"""Who may read the runs: methods, hosts, the token of `dotflow ui`, and the headers of each response."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dotflow.providers import HistorySQLite
from dotflow.ui.application import make_app
from dotflow.ui.security import AccessTokens, ASGIApp, Gate, Guard
from tests.asgi import Response, request
from tests.histories import quick

PATHS = ["/", "/runs/last", "/page.css", "/page.js", "/api/runs", "/api/runs/last", "/nowhere", "/api/nowhere"]


@pytest.fixture
def history(tmp_path: Path) -> Iterator[HistorySQLite]:
    opened = HistorySQLite(tmp_path / "history.db")
    quick(opened).start()
    yield opened
    opened.close()


@pytest.fixture
def tokens() -> AccessTokens:
    return AccessTokens()


def served(history: HistorySQLite, tokens: AccessTokens, host: str = "127.0.0.1") -> ASGIApp:
    return Guard(Gate(make_app(history, None), tokens, [host], "dotflow-8765"))


@pytest.fixture
def pages(history: HistorySQLite, tokens: AccessTokens) -> ASGIApp:
    return served(history, tokens)


def cookie(tokens: AccessTokens) -> str:
    return f"theme=dark; dotflow-8765={tokens.token}"


def is_guarded(response: Response) -> bool:
    policy = response.headers["content-security-policy"]
    return (
        policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; ")
        and policy.endswith("img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
        and response.headers["cache-control"] == "no-store"
        and response.headers["x-content-type-options"] == "nosniff"
        and response.headers["referrer-policy"] == "no-referrer"
    )


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_shown_without_the_token(pages: ASGIApp, tokens: AccessTokens, path: str) -> None:
    """No token, a wrong one, and that of another port are refused with words; every response is guarded."""
    code = tokens.make_code()
    for wrong in ("", "dotflow-8765=wrong", f"dotflow-9000={tokens.token}", f"dotflow-8765={code}", "\xff;=;;"):
        response = request(pages, path, cookie=wrong)
        assert response.status == 403
        assert "Open the address that it printed" in response.text
        assert is_guarded(response)
        assert ("error" in response.json) if path.startswith("/api/") else "<" not in response.text
    right = request(pages, path, cookie=cookie(tokens))
    assert right.status == (404 if "nowhere" in path else 200)
    assert is_guarded(right)


def test_a_browser_keeps_the_script_until_it_changes(pages: ASGIApp, tokens: AccessTokens) -> None:
    """Its address has its digest. Other addresses are not kept, and neither is the refusal without the token."""
    page = request(pages, "/runs/last", cookie=cookie(tokens)).text
    (address,) = re.findall(r'src="\.\.(/page\.js\?[0-9a-f]+)"', page)

    kept = request(pages, address, cookie=cookie(tokens))
    assert kept.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert "default-src 'none'" in kept.headers["content-security-policy"]
    assert is_guarded(request(pages, f"{address}0", cookie=cookie(tokens)))
    refused = request(pages, address)
    assert (refused.status, is_guarded(refused)) == (403, True)


def test_the_token_is_in_the_address_once(pages: ASGIApp, tokens: AccessTokens) -> None:
    """Then it is in a cookie that no script and no other site gets, and the address is clean."""
    response = request(pages, f"/?token={tokens.token}")

    assert response.headers["set-cookie"] == f"dotflow-8765={tokens.token}; Path=/; HttpOnly; SameSite=Strict"
    assert 'http-equiv="refresh" content="0;url=./"' in response.text
    assert tokens.token not in response.text
    assert is_guarded(response)
    assert request(pages, "/", cookie=response.headers["set-cookie"].split(";")[0]).status == 200


def test_a_cookie_of_another_server_does_not_hide_the_token(pages: ASGIApp, tokens: AccessTokens) -> None:
    """Browsers don't keep the cookies of several ports apart, and send that with the longer path first."""
    assert request(pages, "/api/runs", cookie=f"dotflow-8765=wrong; {cookie(tokens)}").status == 200


@pytest.mark.parametrize("token", ["wrong", "", "%FF", "☃"])
def test_a_wrong_token_is_refused(pages: ASGIApp, token: str) -> None:
    """It sets no cookie."""
    response = request(pages, f"/?token={token}")

    assert response.status == 403
    assert "set-cookie" not in response.headers


def test_the_code_of_the_browser_counts_once(pages: ASGIApp, tokens: AccessTokens) -> None:
    """A request without a body, as programs send that look at addresses, does not spend it."""
    address = f"/?token={tokens.make_code()}"

    assert request(pages, address, method="HEAD").status == 403
    assert request(pages, address).status == 200
    assert request(pages, address).status == 403
    assert request(pages, "/?token=").status == 403


def test_the_code_of_the_browser_stands_for_the_token_that_writes(history: HistorySQLite) -> None:
    """Who starts `dotflow ui --write` wants the buttons. A token that reads stays one."""
    tokens = AccessTokens(may_write=True)
    pages = served(history, tokens)

    def cookie_for(text: str) -> str:
        return request(pages, f"/?token={text}").headers["set-cookie"].partition(";")[0]

    assert cookie_for(tokens.make_code()) == cookie_for(tokens.writing) == f"dotflow-8765={tokens.writing}"
    assert cookie_for(tokens.token) == f"dotflow-8765={tokens.token}"
    assert tokens.token != tokens.writing


def test_a_token_counts_at_the_root_only(pages: ASGIApp, tokens: AccessTokens) -> None:
    """So the clean address is no other one."""
    for path in ("//evil.example/", "/runs/last", "/api/runs"):
        assert request(pages, f"{path}?token={tokens.token}").status == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"])
def test_nothing_but_reading(pages: ASGIApp, tokens: AccessTokens, method: str, path: str) -> None:
    """GET and HEAD only."""
    response = request(pages, path, method=method, cookie=cookie(tokens))

    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert is_guarded(response)
    assert request(pages, path, method="HEAD", cookie=cookie(tokens)).status in (200, 404)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "10.0.0.1",
        "0.0.0.0",
    ],
)
def test_a_foreign_host_is_refused(pages: ASGIApp, tokens: AccessTokens, host: str) -> None:
    """A name that leads here from elsewhere would make another site's scripts ours."""
    response = request(pages, "/api/runs", host=host, cookie=cookie(tokens))

    assert response.status == 400
    assert is_guarded(response)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "[::1]:8765", "localhost."])
def test_this_computer_is_ours(pages: ASGIApp, tokens: AccessTokens, host: str) -> None:
    """Under any port, which may be forwarded."""
    assert request(pages, "/api/runs", host=host, cookie=cookie(tokens)).status == 200


@pytest.mark.parametrize(
    ("listens", "host", "status"),
    [
        ("etl-1", "etl-1:8765", 200),
        ("etl-1", "etl-2:8765", 400),
        ("0.0.0.0", "10.1.2.3:8765", 200),
        ("::", "[fe80::1]:8765", 200),
        ("0.0.0.0", "evil.example", 400),
    ],
)
def test_another_host_is_allowed_by_name(
    history: HistorySQLite, tokens: AccessTokens, listens: str, host: str, status: int
) -> None:
    """That of --host; with all addresses of the computer, any address, which no foreign name can be."""
    pages = served(history, tokens, listens)

    assert request(pages, "/api/runs", host=host, cookie=cookie(tokens)).status == status


@pytest.mark.parametrize(
    "path",
    [
        "/page.html",
        "/page.py",
        "/document.py",
        "/../page.py",
        "/%2e%2e/report/page.py",
        "/runs/../../x",
        "//",
        "/api/",
        "/api",
        "/api/runs/",
        "/runs/last/",
    ],
)
def test_there_are_no_other_files(pages: ASGIApp, tokens: AccessTokens, path: str) -> None:
    """But the page, its style and its script."""
    assert request(pages, path, cookie=cookie(tokens)).status == 404


def test_tokens_are_new_each_time() -> None:
    """And long."""
    texts = {text for tokens in (AccessTokens(), AccessTokens()) for text in (tokens.token, tokens.make_code())}

    assert len(texts) == 4
    assert all(len(text) >= 32 for text in texts)
