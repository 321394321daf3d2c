"""Names that all parts share agree with the settings and commands that use them."""

from tidings import conventions
from tidings.consume.replays import RecordReplayOutcome
from tidings.messages.events import message_type
from tidings.settings import Settings


def test_every_environment_variable_is_a_setting() -> None:
    variables = {name for name in vars(conventions) if name.startswith(("DAPR_", "APP_", "TIDINGS_"))}
    assert all(getattr(conventions, name) == name for name in variables)
    of_stateful_services = {"TIDINGS_DATA"}  # a setting of each service that keeps files
    assert variables - of_stateful_services <= {name.upper() for name in Settings.model_fields}


def test_the_topic_of_replay_outcomes_is_that_of_the_command() -> None:
    assert message_type(RecordReplayOutcome).topic == conventions.REPLAY_OUTCOMES
