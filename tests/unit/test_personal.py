"""Personal data is encrypted in whatever leaves a handler, and readable in handlers until the key is destroyed."""

import json
import logging
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pydantic
import pytest
import structlog

from tidings import PERSONAL, SUBJECT, DeadLetter, Event, Handlers, Rejected, RetryPolicy, StateContext, event
from tidings.errors import DefinitionError, MalformedEvent
from tidings.messages import events, personal
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import Envelope, decode
from tidings.observability.logs import handling, redact_personal_data
from tidings.service import Service
from tidings.settings import Settings
from tidings.subject_keys import KeyFile
from tidings.testing.sidecar import MemorySidecar


class Person(Event):
    person_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    note: Annotated[str, PERSONAL] | None = None


@event("shop.orderPlaced", subject="order_id")
class OrderPlaced(Event):
    order_id: str
    person: Person
    street: Annotated[str, PERSONAL]
    lines: list[dict[str, Annotated[str, PERSONAL]]]
    comment: str = ""


@event("shop.orderPlaced", subject="order_id")
class OrderRead(Event):
    """A consumer's class, which has no marks."""

    order_id: str
    person: dict[str, str | None]
    street: str
    lines: list[dict[str, str]]
    comment: str


class Customer(pydantic.BaseModel):
    id: str = pydantic.Field(json_schema_extra=SUBJECT.extra_json_schema)
    email: str | None = pydantic.Field(default=None, json_schema_extra=PERSONAL.extra_json_schema)


@event("shop.customerCame")
class CustomerCame(pydantic.BaseModel):
    customer: Customer
    amount: float


ORDER = OrderPlaced(
    order_id="o-1",
    person=Person(person_id="p-1", name='Ada Łovelace "the" 1st', note=None),
    street="Basil Lane 7",
    lines=[{"for": "Grace"}, {"for": "Bo"}],
    comment="no onions",
)
SECRETS = ("Łovelace", "Basil", "Grace", 'Bo"')


def published(message: Any, event_id: str = "e-1") -> Envelope:
    kind = events.message_type(type(message))
    data, subject = personal.encrypt(kind.model, events.encode(message), "shop", event_id)
    envelope = Envelope(
        id=event_id, source="shop", type=kind.name, version="1", specversion="1.0",
        datasubject=subject, data=msgspec.Raw(data),
    )  # fmt: skip
    return decode(envelope.encode())


def read(envelope: Envelope) -> Any:
    return events.decode(events.message_type(OrderRead), 1, personal.decrypt(envelope))


def test_marked_values_are_encrypted_and_handlers_read_them(keys: KeyFile):
    sent = published(ORDER)
    text = bytes(sent.data).decode()
    assert not any(secret in text for secret in SECRETS)
    assert ("no onions" in text, sent.datasubject) == (True, "p-1")
    assert msgspec.to_builtins(read(sent)) == msgspec.to_builtins(ORDER)
    assert bytes(published(ORDER).data) != bytes(sent.data)  # equal values do not look equal


def test_pydantic_models_are_encrypted_too(keys: KeyFile):
    sent = published(CustomerCame(customer=Customer(id="p-2", email="ada@example.org"), amount=1.5))
    assert (b"ada@" in bytes(sent.data), sent.datasubject) == (False, "p-2")
    assert json.loads(bytes(personal.decrypt(sent))) == {
        "customer": {"id": "p-2", "email": "ada@example.org"}, "amount": 1.5,
    }  # fmt: skip


def test_after_the_key_is_destroyed_old_and_new_events_have_masks(keys: KeyFile, tmp_path: Path):
    before = published(ORDER)
    key = keys.key("p-1")
    assert keys.destroy("p-1")
    assert not keys.destroy("p-1")
    for sent in (before, published(ORDER)):
        result = read(sent)
        assert (result.person["name"], result.street, result.lines) == ("***", "***", [{"for": "***"}, {"for": "***"}])
        assert (result.comment, result.person["note"]) == ("no onions", None)
    assert key is not None
    assert not any(key in file.read_bytes() for file in tmp_path.iterdir())


def test_a_process_without_keys_reads_masks_and_publishes_plain_text_with_a_warning(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
):
    sent = published(ORDER)
    personal.use(None)
    assert read(sent).street == "***"
    personal._warn.cache_clear()
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr(personal, "log", log)  # capture_logs misses loggers that were used before
    assert "Basil" in bytes(published(ORDER).data).decode()
    published(ORDER)
    assert [call.args for call in log.calls] == [("personal_data.not_encrypted",)]


def test_a_value_cannot_be_moved_to_another_event_or_changed(keys: KeyFile):
    sent = published(ORDER)
    flipped = re.sub(rb"(encrypted:v1:)(.)", lambda it: it[1] + (b"B" if it[2] == b"A" else b"A"), bytes(sent.data))
    for changed in ({"id": "e-2"}, {"source": "bank"}, {"data": msgspec.Raw(flipped)}):
        with pytest.raises(MalformedEvent, match="a personal value of p-1 was changed, or belongs to another event"):
            personal.decrypt(msgspec.structs.replace(sent, **changed))
    letter = msgspec.structs.replace(sent, id="letter-1", originalid="e-1")
    assert read(letter).street == "Basil Lane 7"  # a dead letter is about the event that failed


@pytest.mark.parametrize("typed", ["encrypted:v1:", "encrypted:v1:AAAA", '"encrypted:v1:AAAA"', "\\u0065ncrypted:v1:A"])
def test_what_a_user_types_in_is_never_taken_for_an_encrypted_value(keys: KeyFile, typed: str):
    sent = published(msgspec.structs.replace(ORDER, comment=typed, street=typed))
    assert (read(sent).comment, read(sent).street) == (typed, typed)


def test_an_event_with_personal_fields_names_one_person(keys: KeyFile):
    anonymous = msgspec.structs.replace(ORDER, person=Person(person_id="", name="Ada"))
    with pytest.raises(DefinitionError, match=r"shop\.orderPlaced\.v1 has personal fields, but names no person"):
        published(anonymous)


def test_types_without_marks_cost_no_work(keys: KeyFile):
    assert personal.marks_of(OrderRead) is None
    data = b'{"any": "bytes"}'
    assert personal.encrypt(OrderRead, data, "shop", "e-1") == (data, "")
    plain = Envelope(id="1", data=msgspec.Raw(data))
    assert personal.decrypt(plain) is plain.data


def test_keys_survive_a_restart_and_only_their_owner_reads_them(tmp_path: Path):
    path = tmp_path / "keys.db"
    first, second = KeyFile(path), KeyFile(path)
    assert first.key("p-1") is None
    key = first.create("p-1")
    assert key is not None and len(key) == 32  # noqa: PT018
    assert second.create("p-1") == second.key("p-1") == KeyFile(path).key("p-1") == key
    assert path.stat().st_mode & 0o777 == 0o600
    first.destroy("p-1")
    assert KeyFile(path).create("p-1") is None
    path.chmod(0o644)
    with pytest.raises(DefinitionError, match=r"others may read the keys in .*: run chmod 600"):
        KeyFile(path)


async def test_reasons_of_failures_and_log_lines_are_masked(keys: KeyFile, tmp_path: Path):
    handlers = Handlers()

    @handlers.on(OrderRead)
    async def refuse(order: OrderRead, _context: StateContext) -> None:
        raise Rejected(f"no street {order.street} for {order.lines[1]['for']} on Boulevard")

    sidecar = MemorySidecar("kitchen")
    service = Service("kitchen", handlers, sidecar=sidecar, settings=Settings(tidings_keys=tmp_path / "keys.db"))
    route = next(iter(handlers))
    sent = published(ORDER)
    delivery = DeliveryContext("kitchen", sent, "kitchen-orders")
    outcome = await service._runner.attempt(route, delivery, RetryPolicy())
    assert isinstance(outcome, DeadLetter)
    assert outcome.reason == "no street *** for *** on Boulevard"
    token = handling.set(DeliveryContext("kitchen", sent))
    try:
        line = redact_personal_data(
            logging, "error", {"event": "failed", "exception": "KeyError: 'Basil Lane 7'", "n": 1}
        )
    finally:
        handling.reset(token)
    assert line == {"event": "failed", "exception": "KeyError: '***'", "n": 1}


# -- documents ----------------------------------------------------------------------------------------------------


class Driver(msgspec.Struct):
    driver_id: Annotated[str, SUBJECT] = ""
    name: Annotated[str, PERSONAL] = ""


class Place(msgspec.Struct):
    street: Annotated[str, PERSONAL]


class Buyer(msgspec.Struct):
    buyer_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]


class Sale(msgspec.Struct):
    """Its street belongs to the buyer, the only person within; each driver is a person of their own."""

    sale_id: str
    buyer: Buyer
    place: Place
    note: str = ""


class Crew(msgspec.Struct):
    drivers: dict[str, Driver] = {}
    street: Annotated[str, PERSONAL] = ""


class Plain(msgspec.Struct):
    text: str


class Guest(msgspec.Struct):
    guest_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]
    brings: list["Guest"] = []


class Guests(msgspec.Struct):
    first: Guest


SALE = Sale("s-1", Buyer("p-1", 'Ada "the" Łovelace'), Place("Basil Lane 7"), "no onions")


def stored(document: Any, name: str = "sale/s-1") -> bytes:
    return personal.encrypt_document(document, msgspec.json.encode(document), name)


def loaded(model: Any, data: bytes, name: str = "sale/s-1") -> Any:
    return msgspec.json.decode(personal.decrypt_document(model, data, name), type=model)


def test_documents_hold_ciphertext_and_are_read_until_the_key_is_destroyed(keys: KeyFile):
    data = stored(SALE)
    # With its space, since Base64 may contain three letters by chance.
    assert not any(secret in data.decode() for secret in ("Ada ", "Łovelace", "Basil"))
    assert b"no onions" in data
    assert loaded(Sale, data) == SALE
    keys.destroy("p-1")
    forgotten = loaded(Sale, data)
    assert (forgotten.buyer.name, forgotten.place.street, forgotten.note) == ("***", "***", "no onions")
    assert loaded(Sale, stored(SALE)).buyer.name == "***"  # nor is it stored again


def test_every_value_of_a_document_belongs_to_the_person_nearest_to_it(keys: KeyFile):
    crew = Crew({"d-1": Driver("d-1", "Ada"), "d-2": Driver("d-2", "Bo"), "d-3": Driver()})
    data = stored(crew)
    keys.destroy("d-2")
    assert loaded(Crew, data).drivers == {"d-1": Driver("d-1", "Ada"), "d-2": Driver("d-2", "***"), "d-3": Driver()}
    with pytest.raises(DefinitionError, match="street is personal, but the document names several persons"):
        stored(msgspec.structs.replace(crew, street="Basil Lane 7"))
    with pytest.raises(DefinitionError, match="name is personal, but the document names no person"):
        stored(Crew({"d-4": Driver("", "Ada")}))


def test_a_value_cannot_be_moved_to_another_document_or_read_without_keys(keys: KeyFile):
    data = stored(SALE)
    with pytest.raises(DefinitionError, match="sale/s-2 has a personal value that was changed, or belongs to another"):
        loaded(Sale, data, "sale/s-2")
    personal.use(None)
    with pytest.raises(DefinitionError, match=r"sale/s-1 has encrypted personal data: set TIDINGS_KEYS"):
        loaded(Sale, data)


@pytest.mark.parametrize("typed", ["encrypted:v1:", "encrypted:v1:AAAA.AAAA", '"encrypted:v1:AAAA.AAAA"'])
def test_text_that_looks_encrypted_is_read_as_it_was_saved(keys: KeyFile, typed: str):
    sale = Sale("s-1", Buyer("p-1", typed), Place(typed), typed)
    assert loaded(Sale, stored(sale)) == sale
    assert loaded(Plain, stored(Plain(typed))) == Plain(typed)


def test_text_that_looks_encrypted_is_detected_behind_escapes_too(keys: KeyFile):
    sale = Sale("s-1", Buyer("p-1", ""), Place(""), "encrypted:v1:AAAA.AAAA")
    escaped = msgspec.json.encode(sale).replace(b"encrypted", rb"\u0065ncrypted")
    assert loaded(Sale, personal.encrypt_document(sale, escaped, "sale/s-1")) == sale


def test_marks_count_at_every_depth_of_a_document_that_contains_itself(keys: KeyFile):
    guests = Guests(Guest("p-1", "Ada L.", [Guest("p-2", "Grace H.", [Guest("p-3", "Bo D.")]), Guest("p-4", "")]))
    data = stored(guests)
    assert not any(name in data for name in (b"Ada L.", b"Grace H.", b"Bo D."))  # Base64 cannot contain them by chance
    assert loaded(Guests, data) == guests
    anonymous = Guests(Guest("", "", [Guest("p-2", "")]))
    assert stored(anonymous) == msgspec.json.encode(anonymous)


def test_documents_without_marks_cost_no_work_and_those_saved_before_can_be_read(keys: KeyFile):
    data = msgspec.json.encode(Plain("x"))
    assert personal.encrypt_document(Plain("x"), data, "plain/1") is data
    assert personal.decrypt_document(Plain, data, "plain/1") is data
    assert loaded(Sale, msgspec.json.encode(SALE)) == SALE


async def test_a_service_saves_ciphertext_and_masks_what_it_loaded_in_logs_and_reasons(keys: KeyFile, tmp_path: Path):
    handlers = Handlers()
    lines: list[Any] = []

    @handlers.on(CustomerCame)
    async def save(_: CustomerCame, context: StateContext) -> None:
        sale = await context.load(Sale, "s-1")
        if sale is not None:
            lines.append(redact_personal_data(logging, "info", {"event": f"sold to {sale.place.street}"}))
            raise Rejected(f"sold to {sale.buyer.name} before")
        context.save("s-1", SALE)

    sidecar = MemorySidecar("shop")
    service = Service("shop", handlers, sidecar=sidecar, settings=Settings(tidings_keys=tmp_path / "keys.db"))
    await service.start()
    try:
        await service.started()
        route = next(iter(handlers))
        plain = Envelope(
            id="e-1", source="web", type="shop.customerCame", version="1", specversion="1.0",
            data=msgspec.Raw(b'{"customer": {"id": "p-9"}, "amount": 1}'),
        )  # fmt: skip
        await service._runner.attempt(route, DeliveryContext("shop", plain, "web"), RetryPolicy())
        item = await sidecar.get("sale/s-1")
        assert item is not None
        assert not any(secret in item.value.decode() for secret in ("Łovelace", "Basil"))
        again = msgspec.structs.replace(plain, id="e-2")
        outcome = await service._runner.attempt(route, DeliveryContext("shop", again, "web"), RetryPolicy())
        assert isinstance(outcome, DeadLetter)
        assert outcome.reason == "sold to *** before"
        assert lines == [{"event": "sold to ***"}]
    finally:
        await service.stop()
