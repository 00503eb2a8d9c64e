"""One thread owns the device: batching, fairness, faults, admission and the end of it all."""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from service.engine.engine import Engine
from service.engine.faults import DeviceLost
from service.errors import Cancelled, ComputeFailed, DeadlineExceeded, NotFound, Overloaded, Unavailable
from tests.service.engines import FakeRuntime, make_engine, make_run, until, window


@pytest.fixture
def runtime():
    return FakeRuntime()


@pytest.fixture
def engine(runtime):
    engine = make_engine(runtime)
    yield engine
    runtime.gate.set()
    engine.stop(5)


def occupy(runtime: FakeRuntime, engine: Engine) -> Future:
    """Let a first window hold the device, so that what is queued next gathers."""
    runtime.gate.clear()
    future = engine.compute(make_run(), "a", [window(0)])
    runtime.until_busy()
    return future


def test_answers_come_in_the_order_of_the_windows(engine):
    computed = engine.compute(make_run(), "a", [window(value) for value in (5, 7, 9)]).result(5)
    assert [int(output[0, 0, 0]) for output in computed.outputs] == [6, 8, 10]
    assert computed.queue >= 0
    assert computed.compute > 0


def test_an_idle_engine_holds_no_pixels(engine):
    pixels = window(1)
    kept = weakref.ref(pixels)
    engine.compute(make_run(), "a", [pixels]).result(5)
    del pixels
    until(lambda: kept() is None)


def test_windows_gather_while_the_device_is_busy_and_only_equal_shapes_and_models_join(runtime, engine):
    occupy(runtime, engine)
    futures = [engine.compute(make_run(), "a", [window(value)]) for value in (1, 2, 3)]
    futures.append(engine.compute(make_run(), "a", [window(4, side=16)]))
    futures.append(engine.compute(make_run(), "b", [window(5)]))
    runtime.gate.set()
    for future in futures:
        future.result(5)
    assert runtime.batches[1] == ("a", [1, 2, 3])
    assert sorted(runtime.batches[2:]) == [("a", [4]), ("b", [5])]


def test_the_largest_batch_goes_first_but_a_neglected_one_before_it(runtime, engine, monkeypatch):
    occupy(runtime, engine)
    small = engine.compute(make_run(), "b", [window(1)])
    large = engine.compute(make_run(), "a", [window(2), window(3)])
    monkeypatch.setattr("service.engine.queue.PATIENCE", 1000)
    runtime.gate.set()
    small.result(5), large.result(5)
    assert [values for _, values in runtime.batches] == [[0], [2, 3], [1]]

    runtime.batches.clear()
    occupy(runtime, engine)
    small = engine.compute(make_run(), "b", [window(1)])
    large = engine.compute(make_run(), "a", [window(2), window(3)])
    monkeypatch.setattr("service.engine.queue.PATIENCE", -1)
    runtime.gate.set()
    small.result(5), large.result(5)
    assert [values for _, values in runtime.batches] == [[0], [1], [2, 3]]


def test_jobs_take_turns_inside_a_batch(runtime):
    engine = make_engine(runtime, max_batch=2)
    occupy(runtime, engine)
    large = engine.compute(make_run(), "a", [window(value) for value in range(10, 16)])
    small = engine.compute(make_run(), "a", [window(1)])
    runtime.gate.set()
    small.result(5), large.result(5)
    assert runtime.batches[1] == ("a", [10, 1])
    engine.stop(5)


def test_a_light_caller_waits_for_a_turn_and_not_for_a_hundred_runs_of_another(runtime):
    engine = make_engine(runtime, max_batch=1)
    occupy(runtime, engine)
    many = [engine.compute(make_run(owner="heavy"), "a", [window(10)]) for _ in range(100)]
    few = [engine.compute(make_run(owner="light"), "a", [window(20)]) for _ in range(2)]
    runtime.gate.set()
    for future in (*many, *few):
        future.result(5)
    order = [values for model, values in runtime.batches if model == "a"]
    assert [place for place, values in enumerate(order) if values == [20]] in ([1, 3], [2, 4])
    engine.stop(5)


def test_no_more_share_a_batch_than_the_device_gains_by(runtime, engine):
    runtime.together = 2
    occupy(runtime, engine)
    future = engine.compute(make_run(), "a", [window(value) for value in range(1, 6)])
    runtime.gate.set()
    future.result(5)
    assert [len(values) for _, values in runtime.batches[1:]] == [2, 2, 1]


def test_out_of_memory_halves_until_it_fits_and_later_batches_stay_small(runtime, engine):
    def at_most_two(windows):
        if len(windows) > 2:
            raise torch.OutOfMemoryError("injected")

    occupy(runtime, engine)
    futures = [engine.compute(make_run(), "a", [window(value)]) for value in range(1, 9)]
    runtime.before_answer = at_most_two
    runtime.gate.set()
    assert [int(future.result(5).outputs[0][0, 0, 0]) for future in futures] == list(range(2, 10))
    runtime.batches.clear()
    engine.compute(make_run(), "a", [window(1)] * 5).result(5)
    assert max(len(values) for _, values in runtime.batches) <= 2


def test_a_window_that_never_fits_is_refused_alone(runtime, engine):
    def no_thirteen(windows):
        if any(w.pixels[0, 0, 0] == 13 for w in windows):
            raise torch.OutOfMemoryError("injected")

    runtime.before_answer = no_thirteen
    with pytest.raises(Unavailable, match="memory"):
        engine.compute(make_run(), "a", [window(13)]).result(5)
    engine.compute(make_run(), "a", [window(12)]).result(5)


def test_a_poisonous_window_fails_alone(runtime, engine):
    def poison(windows):
        if any(w.pixels[0, 0, 0] == 13 for w in windows):
            raise ValueError("injected")

    runtime.before_answer = poison
    occupy(runtime, engine)
    futures = {value: engine.compute(make_run(), "a", [window(value)]) for value in range(10, 18)}
    runtime.gate.set()
    for value, future in futures.items():
        if value == 13:
            with pytest.raises(ComputeFailed):
                future.result(5)
        else:
            assert future.result(5).outputs[0][0, 0, 0] == value + 1


def test_abandoned_and_expired_jobs_cost_no_compute(runtime, engine):
    running = occupy(runtime, engine)
    gone, late, kept = make_run(), make_run(seconds=0), make_run()
    futures = [engine.compute(run, "a", [window(i)]) for i, run in enumerate((gone, late, kept), start=1)]
    gone.cancelled.set()
    runtime.gate.set()
    running.result(5), futures[2].result(5)
    with pytest.raises(Cancelled):
        futures[0].result(5)
    with pytest.raises(DeadlineExceeded):
        futures[1].result(5)
    assert [values for _, values in runtime.batches] == [[0], [3]]
    text = engine._metrics.exposition().decode()
    assert 'retouch_dropped_total{reason="cancelled"} 1.0' in text
    assert 'retouch_dropped_total{reason="deadline"} 1.0' in text


def test_work_beyond_the_longest_wait_is_refused_with_a_time_to_come_back(runtime):
    engine = make_engine(runtime, max_wait=5.0)
    engine._pace.observe("a", window(0).weight, 1.0)
    occupy(runtime, engine)
    futures = [engine.compute(make_run(), "a", [window(1)]) for _ in range(5)]
    with pytest.raises(Overloaded) as refused:
        engine.compute(make_run(), "a", [window(2)])
    assert refused.value.retry_after >= 1
    admitted = engine.compute(make_run(), "a", [window(3)], admitted=True)
    runtime.gate.set()
    for future in (*futures, admitted):
        future.result(5)
    engine.stop(5)


def test_loading_evicts_the_least_recently_used_model_by_bytes(runtime):
    engine = make_engine(runtime, resident_bytes=250)
    for model in ("a", "b", "a", "c"):
        engine.compute(make_run(), model, [window(1)]).result(5)
    assert engine.resident() == {"a": 100, "c": 100}
    engine.unload("a").result(5)
    engine.load("b").result(5)
    assert engine.resident() == {"c": 100, "b": 100}
    assert 'retouch_device_bytes{device="cpu",model="a"}' not in engine._metrics.exposition().decode()
    engine.stop(5)


def test_a_model_that_cannot_be_loaded_fails_its_own_requests_only(runtime, engine):
    with pytest.raises(NotFound):
        engine.load("missing").result(5)
    with pytest.raises(NotFound):
        engine.compute(make_run(), "missing", [window(1)]).result(5)
    engine.compute(make_run(), "a", [window(1)]).result(5)


def test_a_full_device_makes_room_for_a_model_by_evicting(runtime, engine):
    engine.compute(make_run(), "a", [window(1)]).result(5)
    load = runtime.load

    def full_while_a_is_there(entry):
        if "a" in engine.resident():
            raise torch.OutOfMemoryError("injected")
        return load(entry)

    runtime.load = full_while_a_is_there
    engine.load("b").result(5)
    assert set(engine.resident()) == {"b"}


def test_a_lost_device_ends_readiness_answers_everyone_and_ends_the_process(runtime):
    ended = threading.Event()
    engine = make_engine(runtime, on_death=ended.set)
    running = occupy(runtime, engine)
    waiting = engine.compute(make_run(), "a", [window(1)])

    def lose(_):
        raise DeviceLost("injected")

    runtime.before_answer = lose
    assert engine.ready() == (True, "")
    runtime.gate.set()
    for future in (running, waiting):
        with pytest.raises(Unavailable):
            future.result(5)
    assert ended.wait(5)
    assert engine.ready()[0] is False
    with pytest.raises(Unavailable):
        engine.compute(make_run(), "a", [window(1)])


def test_stopping_computes_what_waits(runtime):
    engine = make_engine(runtime)
    running = occupy(runtime, engine)
    waiting = engine.compute(make_run(), "a", [window(1)])
    stopper = threading.Thread(target=engine.stop, args=(5,))
    stopper.start()
    until(lambda: engine._stopping)
    with pytest.raises(Unavailable):
        engine.compute(make_run(), "a", [window(2)])
    runtime.gate.set()
    stopper.join(5)
    running.result(0), waiting.result(0)
    assert engine.ready()[0] is False


def test_stopping_answers_even_what_the_grace_does_not_cover(runtime):
    engine = make_engine(runtime)
    running = occupy(runtime, engine)
    waiting = engine.compute(make_run(), "a", [window(1)])
    engine.stop(0.01)
    for future in (running, waiting):
        with pytest.raises(Unavailable):
            future.result(0)
    runtime.gate.set()


def test_every_job_gets_exactly_one_answer_from_many_threads(runtime, engine):
    answers: list[int] = []

    def client(base: int) -> None:
        for value in range(base, base + 10):
            outputs = engine.compute(make_run(), "a", [window(value)] * 3).result(5).outputs
            answers.append(int(outputs[0][0, 0, 0]) - 1)
            assert all(np.array_equal(output, outputs[0]) for output in outputs)

    clients = [threading.Thread(target=client, args=(10 * i,)) for i in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(30)
    assert sorted(answers) == list(range(80))
    assert sum(len(values) for _, values in runtime.batches) == 240
