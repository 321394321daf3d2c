"""Registry of every leaf of the three specs: its enforcer, what it becomes, where its status shows, and its test.

A test compares it with the CRDs, so that no field exists that nobody enforces. `docs/reference/fields.md` is written
from it.
"""
# ruff: noqa: INP001 - read by a program, no package

from typing import NamedTuple


class Field(NamedTuple):
    """One leaf of a spec, or several that differ in their last part: `delivery.retry.{policy,duration}`."""

    path: str
    enforcer: str
    """Any of daprd, SDK, broker, operator and archive; `people` for what is only shown."""
    rendering: str
    """What the plan makes of it."""
    status: str
    """Where a cluster shows whether it holds."""
    test: str
    """The test, as file and function below `tests`."""


_PLAN, _RIGHTS, _CEL = "unit/test_plan.py", "unit/test_plan_rights.py", "unit/test_plan_cel.py"
_REPLAYS, _SENT = "operator/test_operator_replays.py", "operator/test_operator_replays_archived.py"
_OPERATORS = "{exact,prefix,suffix,all,any,not,cel}"

FIELDS: dict[str, tuple[Field, ...]] = {
    "EventSubscription": (
        Field("events[].{type,namespace}", "daprd", "Subscription: topic", "EventTypeResolved, events",
              f"{_PLAN}::test_findings"),
        Field("events[].pattern", "daprd", "Subscription of each type that matches", "EventTypeResolved, events",
              f"{_PLAN}::test_an_archive_reads_every_event_and_the_dead_letters_of_other_apps"),
        Field("events[].versions[]", "daprd", "Subscription of each version's topic", "VersionAccepted, events",
              f"{_PLAN}::test_findings"),
        Field(f"events[].filters[].{_OPERATORS}", "daprd", "Subscription: routes.rules", "PolicyAccepted, events",
              f"{_CEL}::test_filters_match_as_documented"),
        Field("consumer.appId", "daprd", "Subscription and Resiliency: scopes", "Observed",
              f"{_PLAN}::test_the_plan_of_the_shop_matches_its_files"),
        Field("consumer.{owner,contact,criticality}", "people", "tidings consumers, impact", "",
              "unit/test_cli_consumers.py::test_for_programs"),
        Field("consumer.kit", "SDK", "policy of the app", "enforcement",
              f"{_PLAN}::test_an_app_without_the_kit_gets_what_it_asks_for_and_a_warning_of_the_risk"),
        Field("source.{pubsub,topic}", "daprd", "Subscription: pubsubname, topic", "topics",
              f"{_PLAN}::test_source_overrides_the_channel_of_the_type"),
        Field("routes.rules[].{match,path}", "daprd", "Subscription: routes.rules", "PolicyAccepted, enforcement",
              f"{_PLAN}::test_routes_come_before_the_default_of_their_filter"),
        Field("routes.default", "daprd", "Subscription: routes.default", "PolicyAccepted, enforcement",
              f"{_PLAN}::test_routes_come_before_the_default_of_their_filter"),
        Field("delivery.retry.{policy,duration,maxInterval,maxRetries}", "SDK, daprd", "policy; Resiliency: retries",
              "enforcement", f"{_PLAN}::test_without_the_kit_daprd_keeps_the_strongest_of_each"),
        Field("delivery.timeout", "SDK, daprd", "policy; Resiliency: timeouts", "enforcement",
              f"{_PLAN}::test_without_the_kit_daprd_keeps_the_strongest_of_each"),
        Field("delivery.circuitBreaker.{maxRequests,interval,timeout,trip}", "daprd", "Resiliency: circuitBreakers",
              "enforcement", f"{_PLAN}::test_without_the_kit_daprd_keeps_the_strongest_of_each"),
        Field("delivery.deadLetter.topic", "SDK, daprd", "policy; Subscription: deadLetterTopic", "DeadLetterReady",
              f"{_RIGHTS}::test_an_app_may_name_dead_letters_of_its_own"),
        Field("delivery.deadLetter.replay", "SDK", "Subscription to replay.APP", "",
              f"{_PLAN}::test_replays"),
        Field("maxConcurrency", "SDK, daprd", "policy; number of components", "enforcement",
              "unit/test_limits.py::test_limits_in_yaml_reach_the_limiter"),
        Field("rateLimit.{eventsPerSecond,burst}", "SDK", "policy", "enforcement",
              "unit/test_limits.py::test_limits_in_yaml_reach_the_limiter"),
        Field("bulk.{maxMessages,maxAwait}", "daprd", "Subscription: bulkSubscribe", "enforcement",
              f"{_PLAN}::test_bulk_delivery_needs_all_subscriptions_of_a_topic"),
        Field("ordering.{mode,key}", "SDK", "policy; one component", "enforcement",
              "unit/test_limits.py::test_limits_in_yaml_reach_the_limiter"),
        Field("startFrom", "broker", "refused unless the component is set so", "enforcement",
              f"{_PLAN}::test_a_start_position_is_what_the_component_does_or_refused"),
        Field("suspend", "daprd", "no Subscription for the topics", "Ready, Observed",
              f"{_PLAN}::test_a_suspended_subscription_leaves_its_topic"),
        Field("deletionPolicy", "operator", "owner references of the children", "children",
              "operator/test_operator_programs.py::test_the_deletion_policy_decides_what_stays"),
        Field("enforcement", "operator", "severity of what cannot be enforced", "PolicyAccepted",
              f"{_PLAN}::test_findings"),
    ),
    "EventType": (
        Field("type", "operator", "topic; CloudEvents type", "Ready", f"{_PLAN}::test_names"),
        Field("{domain,intent}", "operator", "rules for names and consumers", "Ready", f"{_PLAN}::test_names"),
        Field("classification", "operator", "Personal: marks of the schema are demanded; AsyncAPI, system map", "Ready",
              "unit/test_plan_personal.py::test_incomplete_marks_are_errors"),
        Field("description", "people", "AsyncAPI, system map, events page", "",
              "unit/test_plan_systemmap.py::test_a_type_reports_its_owner_and_the_channel_of_every_version"),
        Field("owner.{team,contact}", "people", "AsyncAPI, system map, tidings impact", "",
              "unit/test_plan_systemmap.py::test_a_type_reports_its_owner_and_the_channel_of_every_version"),
        Field("producers[]", "daprd", "Component: publishingScopes", "Ready",
              f"{_PLAN}::test_scopes_are_the_least_that_works"),
        Field("channel.{pubsub,topic}", "broker", "topic or stream of each version", "Ready",
              f"{_RIGHTS}::test_a_type_claims_no_channel_of_other_owners"),
        Field("access.namespaces[]", "operator", "which subscriptions are accepted", "Ready",
              f"{_RIGHTS}::test_a_pattern_reads_nothing_of_a_namespace_that_does_not_invite"),
        Field("compatibility", "operator", "refusal of changed schemas", "Compatible",
              "unit/test_plan_compatibility.py::test_modes"),
        Field("policy.afterRemoval", "operator", "severity after the removal date", "deprecated",
              f"{_PLAN}::test_findings"),
        Field("versions[].{name,state}", "operator", "which versions can be consumed", "Ready",
              f"{_PLAN}::test_versions_of_a_type"),
        Field("versions[].{schema,examples[]}", "operator", "compatibility; probes of conditions", "Compatible",
              f"{_PLAN}::test_conditions_that_would_fail_on_real_events"),
        Field("versions[].deprecation.{effective,removal,alternative}", "operator", "warnings, then errors",
              "deprecated", "operator/test_operator_deprecation.py::test_from_active_to_its_removal"),
        Field("versions[].{rfc,description}", "people", "AsyncAPI, events page", "",
              "unit/test_plan_systemmap.py::test_a_type_reports_its_owner_and_the_channel_of_every_version"),
    ),
    "EventReplay": (
        Field("source.kind", "archive", "which store is read", "matched", f"{_SENT}::test_what_is_meant_is_sent"),
        Field("filter.{type,versions[],ids[],correlationId,reason,since,until}", "archive", "selection", "matched",
              f"{_REPLAYS}::test_a_filter_that_means_nothing_is_refused"),
        Field(f"filter.match[].{_OPERATORS}", "archive", "selection by CEL", "matched",
              f"{_CEL}::test_filters_match_as_documented"),
        Field("target.{subscription,namespace}", "SDK", "replayto of each event", "sent, handled",
              f"{_RIGHTS}::test_a_replay_reaches_its_own_namespace_only"),
        Field("rate", "archive", "pace of publishing", "sent",
              f"{_REPLAYS}::test_dead_letters_are_released_at_the_rate_and_never_repeatedly"),
        Field("confirmationTimeout", "operator", "when a replay ends unconfirmed", "unconfirmed, phase",
              f"{_REPLAYS}::test_the_status_shows_the_outcomes_of_events"),
        Field("dryRun", "archive", "events are counted only", "matched", f"{_REPLAYS}::test_a_dry_run_only_counts"),
        Field("requestedBy", "people", "audit entry", "audit",
              f"{_REPLAYS}::test_the_status_shows_the_outcomes_of_events"),
    ),
}  # fmt: skip
