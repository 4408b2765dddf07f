from prometheus_client import CollectorRegistry
from prometheus_client.samples import Exemplar

from llmvitals import catalogue
from llmvitals._recording import Recorder


def exemplars_of(registry):
    return {
        (sample.name, sample.labels.get("le")): sample.exemplar
        for family in registry.collect()
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_a_bucket_keeps_its_latest_exemplar():
    """Of each bucket the last one is shown; a counter has one, a gauge none."""
    recorder = Recorder(CollectorRegistry())
    duration = recorder.child(catalogue.HEALTH_DURATION, "db")
    for amount, trace in ((0.02, "a"), (0.021, "b"), (99.0, "c")):
        duration.observe(amount)
        duration.exemplify(amount, {"trace_id": trace}, 1.5)
    errors = recorder.child(catalogue.INSTRUMENTATION_ERRORS, "test")
    errors.exemplify(1, {"trace_id": "d"}, 2.5)
    recorder.child(catalogue.BUILD_INFO, "1").exemplify(1, {"trace_id": "e"}, 2.5)

    name = f"{catalogue.HEALTH_DURATION.name}_bucket"
    assert {
        (name, "0.025"): Exemplar({"trace_id": "b"}, 0.021, 1.5),
        (name, "+Inf"): Exemplar({"trace_id": "c"}, 99.0, 1.5),
        (catalogue.INSTRUMENTATION_ERRORS.name, None): Exemplar({"trace_id": "d"}, 1, 2.5),
    } == exemplars_of(recorder.registry)


def test_what_is_recorded_nowhere_takes_exemplars():
    """A folded gauge and a series that could not be made accept them and show nothing."""
    registry = CollectorRegistry()
    recorder = Recorder(registry, label_sets=1)
    for queue in ("a", "b"):
        recorder.child(catalogue.BATCH_QUEUE_DEPTH, queue).exemplify(1, {}, 1.0)
    recorder.child(catalogue.BATCH_QUEUE_DEPTH, "too", "many").exemplify(1, {}, 1.0)

    assert {} == exemplars_of(registry)
