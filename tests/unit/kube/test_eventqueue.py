"""The queue of events against a plain list that is searched for everything."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from vk_provider.kube.correlator import CorrelatedEvent, EventSeries
from vk_provider.kube.eventqueue import EventQueue, WaitingEvent

OBJECTS = ("a", "b", "c", "d")
NAMESPACES = {"a": "one", "b": "one", "c": "two", "d": "two"}


def waiting(name: str, number: int, event_type: str) -> WaitingEvent:
    event = {"metadata": {"namespace": NAMESPACES[name]}, "type": event_type, "message": str(number)}
    return WaitingEvent(CorrelatedEvent.of((name,), (number,), event, EventSeries(str(number), "")))


@dataclass
class Model:
    """Waiting events in the order in which they came, and objects in the order of their turns."""

    events: list[WaitingEvent] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def of(self, name: str) -> list[WaitingEvent]:
        return [event for event in self.events if owner(event) == name]

    def largest(self) -> set[str]:
        """The objects that one may be dropped of."""
        shares = {name: (len(of), of[0].is_normal) for name in OBJECTS if (of := self.of(name))}
        return {name for name, share in shares.items() if share == max(shares.values())}


def owner(event: WaitingEvent) -> str:
    return str(event.planned.object_key[0])


steps = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(OBJECTS), st.sampled_from(("Normal", "Warning"))),
    st.tuples(st.just("take")),
    st.tuples(st.just("release"), st.integers(0, 3)),
    st.tuples(st.just("drop")),
    st.tuples(st.just("namespace"), st.sampled_from(("one", "two"))),
)


@given(st.lists(steps, max_size=60))
def test_the_queue_does_what_its_words_say(history: list[tuple[str, str, str]]) -> None:
    queue, model, posting = EventQueue(), Model(), list[WaitingEvent]()
    for number, step in enumerate(history):
        match step[0]:
            case "add":
                event = waiting(step[1], number, step[2])
                queue.add(event)
                model.events.append(event)
            case "take":
                event_taken = queue.take()
                free = {owner(event) for event in model.events} - model.taken
                assert (event_taken is not None) == bool(free)
                if event_taken is not None:
                    assert owner(event_taken) in free
                    assert event_taken is model.of(owner(event_taken))[0]
                    model.events.remove(event_taken)
                    model.taken.add(owner(event_taken))
                    posting.append(event_taken)
            case "release":
                if posting:
                    done = posting.pop(int(step[1]) % len(posting))
                    queue.release(done)
                    model.taken.discard(owner(done))
            case "drop":
                if model.events:
                    allowed = model.largest()
                    dropped = queue.drop_one()
                    of = model.of(owner(dropped))
                    assert owner(dropped) in allowed
                    assert dropped is next((event for event in of if event.is_normal), of[0])
                    model.events.remove(dropped)
            case _:
                gone = [event for event in model.events if event.namespace == step[1]]
                assert sorted(map(id, queue.drop_namespace(step[1]))) == sorted(map(id, gone))
                model.events = [event for event in model.events if event.namespace != step[1]]
        assert len(queue) == len(model.events)
        assert queue.is_idle == (not model.events and not posting)
        assert queue.has_turn == bool({owner(event) for event in model.events} - model.taken)
