"""Permissions to change something in the archive, and the names in its audit."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import msgspec
import pytest
from pydantic import SecretStr, ValidationError
from tests.support.newsroom import Newsroom
from tests.support.personal import PLACED, USER_HEADER, receive_personal_event

from tidings.messages import personal
from tidings.subject_keys import KeyFile
from tidings_archive.settings import ArchiveSettings

NOBODY: dict[str, str] = {}
TOKEN = {"Authorization": "Bearer s3cret"}
ADA = {"X-Forwarded-User": "ada"}
OPEN = ArchiveSettings()
WITH_TOKEN = ArchiveSettings(token=SecretStr("s3cret"))
WITH_PROXY = ArchiveSettings(user_header="X-Forwarded-User")
WITH_BOTH = ArchiveSettings(token=SecretStr("s3cret"), user_header="X-Forwarded-User")
CASES = [
    # settings, what the visitor brings, under which name it is written down: None where it is refused
    (OPEN, NOBODY, "said"),
    (OPEN, ADA, "said"),
    (WITH_TOKEN, NOBODY, None),
    (WITH_TOKEN, {"Authorization": "Bearer s3cre"}, None),
    (WITH_TOKEN, {"Authorization": "Bearer"}, None),
    (WITH_TOKEN, {"Authorization": "Basic s3cret"}, None),
    (WITH_TOKEN, {"Authorization": "bearer s3cret"}, "said"),
    (WITH_TOKEN, ADA | TOKEN, "said"),
    (WITH_PROXY, NOBODY, None),
    (WITH_PROXY, {"X-Forwarded-User": ""}, None),
    (WITH_PROXY, ADA, "ada"),
    (WITH_PROXY, {"X-Forwarded-User": "a" * 300}, "a" * 200),
    (WITH_BOTH, ADA, None),  # a name that anybody could write
    (WITH_BOTH, ADA | TOKEN, "ada"),
    (WITH_BOTH, TOKEN, "said"),  # a program
]


@pytest.fixture
async def newsroom(tmp_path: Path) -> AsyncIterator[Newsroom]:
    async with Newsroom.opened(tmp_path) as room:
        yield room


@pytest.mark.parametrize(
    ("path", "case"),
    [
        *(("/deadletters/1/discard", case) for case in CASES),
        *(("/deadletters/1/replay", case) for case in (CASES[2], CASES[13])),
        *(("/replays", case) for case in (CASES[2], CASES[13])),
        *(("/replays/r-1/cancel", case) for case in (CASES[2], CASES[13])),
    ],
)
async def test_changes_are_for_who_may_and_have_a_name(
    newsroom: Newsroom, path: str, case: tuple[ArchiveSettings, dict[str, str], str | None]
) -> None:
    chosen, credentials, name = case
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    base = newsroom.url.removesuffix("/console")
    async with httpx2.AsyncClient(base_url=base, timeout=60, trust_env=False) as http:
        replay = {"replayId": "r-1", "consumer": "pickup", "ratePerSecond": 0.001}
        if path.endswith("cancel"):
            await http.post("/replays", json=replay)
        newsroom.settings = chosen
        bodies = {"/deadletters/1/discard": {"by": "said", "reason": "old"}, "/replays": {**replay, "by": "said"}}
        params = {"by": "said"} if path.endswith("cancel") else {}
        answer = await http.post(path, json=bodies.get(path, {"by": "said"}), params=params, headers=credentials)
        entries = (await http.get("/audit")).json()["entries"]
        who = [entry["who"] for entry in entries if entry["action"] != "completed"]
        me = (await http.get("/console/me", headers=credentials)).json()
    assert answer.is_success == (name is not None), answer.text
    assert (me["missing"] is None) == (name is not None)
    if name is None:
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "said" not in who
    else:
        assert who[0] == name
        assert me["name"] == (None if name == "said" else name)


async def test_reading_and_dry_runs_are_for_everybody_who_gets_here(newsroom: Newsroom) -> None:
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    newsroom.settings = WITH_BOTH
    async with httpx2.AsyncClient(base_url=newsroom.url.removesuffix("/console"), timeout=60, trust_env=False) as http:
        assert (await http.get("/deadletters")).status_code == 200
        assert (await http.post("/deadletters/1/replay?dryRun=true", json={})).status_code == 200
        assert (await http.post("/replays?dryRun=true", json={"consumer": "pickup"})).status_code == 200


def test_a_header_is_named_as_headers_are() -> None:
    with pytest.raises(ValidationError, match="user_header"):
        ArchiveSettings(user_header="X Forwarded: User")


async def test_a_viewer_reads_and_changes_nothing(newsroom: Newsroom) -> None:
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    newsroom.settings = ArchiveSettings(token=SecretStr("operate"), viewer_token=SecretStr("view"), namespace="pizza")
    discard = {"by": "x", "reason": "old"}
    expected = (("", "none", 401, 401), ("view", "viewer", 200, 401), ("operate", "operator", 200, 200))
    async with httpx2.AsyncClient(base_url=newsroom.url.removesuffix("/console"), timeout=60, trust_env=False) as http:
        for token, role, reads, changes in expected:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            me = (await http.get("/console/me", headers=headers)).json()
            assert (me["role"], me["namespace"]) == (role, "pizza")
            for path in ("/events", "/counts", "/deadletters", "/deadletters/1", "/replays", "/audit", "/console/live"):
                assert (await http.get(path, headers=headers)).status_code == reads, (path, role)
            answer = await http.post("/deadletters/1/discard", json=discard, headers=headers)
            assert answer.status_code == changes, role
            assert (await http.get("/console")).status_code == 200, "the page asks for the token"


async def test_users_have_roles(newsroom: Newsroom) -> None:
    await newsroom.died("pickup", "kitchen.pizzaBoxed.v1", "no shelf", failuresubscription="pickup-pizza-boxed")
    newsroom.settings = ArchiveSettings(token=SecretStr("t"), user_header="X-User", operators=frozenset({"ada"}))
    discard = {"by": "x", "reason": "old"}
    async with httpx2.AsyncClient(base_url=newsroom.url.removesuffix("/console"), timeout=60, trust_env=False) as http:
        for user, status in (("bob", 403), ("ada", 200)):
            headers = {"Authorization": "Bearer t", "X-User": user}
            assert (await http.get("/deadletters", headers=headers)).status_code == 200
            assert (await http.post("/deadletters/1/discard", json=discard, headers=headers)).status_code == status


async def test_only_listed_users_read_personal_data_and_each_reading_is_recorded(
    newsroom: Newsroom, keys: KeyFile
) -> None:
    event_id = await receive_personal_event(newsroom)
    newsroom.settings = ArchiveSettings(
        token=SecretStr("t"),
        user_header=USER_HEADER,
        operators=frozenset({"ada", "bob"}),
        personal_readers=frozenset({"ada", "eve"}),
    )
    path = f"/decrypted-events/{event_id}"
    token = {"Authorization": "Bearer t"}
    async with httpx2.AsyncClient(base_url=newsroom.url.removesuffix("/console"), trust_env=False) as http:
        refused = ((NOBODY, 401), (token, 403), *((token | {USER_HEADER: name}, 403) for name in ("bob", "eve")))
        for headers, status in (*refused, ({USER_HEADER: "ada"}, 401)):
            assert (await http.post(path, headers=headers)).status_code == status, headers
            assert not (await http.get("/console/me", headers=headers)).json()["personal"]
        ada = token | {USER_HEADER: "ada"}
        assert (await http.get("/console/me", headers=ada)).json()["personal"]
        for stored in (await http.get("/events", headers=ada), await http.get(f"/events/{event_id}", headers=ada)):
            assert PLACED.name not in stored.text
        (event,) = (await http.post(path, headers=ada)).json()["events"]
        assert event["data"] == msgspec.to_builtins(PLACED)
        assert (await http.post("/decrypted-events/none", headers=ada)).status_code == 404
        (entry,) = (await http.get("/audit", headers=ada)).json()["entries"]
        assert (entry["who"], entry["action"], entry["target"]) == ("ada", "read", f"event/{event_id}")
        keys.destroy(PLACED.person_id)
        (event,) = (await http.post(path, headers=ada)).json()["events"]
        assert event["data"] == msgspec.to_builtins(PLACED) | {"name": "***"}
        personal.use(None)
        answer = await http.post(path, headers=ada)
        assert (answer.status_code, "TIDINGS_KEYS" in answer.text) == (409, True)
