"""The policies, pods and namespaces of a cluster, and the tables made of them. Pure: objects in, tables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vk_provider.jsontypes import Json
from vk_provider.netpolicy.compiled import CompiledPolicies
from vk_provider.netpolicy.judgement import Connection, Judgement, TableReader, find_place, find_rule
from vk_provider.netpolicy.peer import Peer, Place, Traits, has_labels, parse_peer, parse_traits
from vk_provider.netpolicy.policy import Policy, parse_policy
from vk_provider.netpolicy.ports import NamedPort
from vk_provider.netpolicy.table import Table

GroupKey = tuple[tuple[str, ...], tuple[NamedPort, ...]]
"""Policies that select a pod (namespace/name), and its own ports as far as they name them."""


@dataclass(slots=True)
class _Group:
    """Followed pods to which the same policies apply: they share one table. dirty: addresses to look at again; taken:
    the table that `take_changed` knew last; reader: of the table that was judged by last."""

    policies: tuple[Policy, ...]
    compiled: CompiledPolicies
    members: set[str] = field(default_factory=set)
    dirty: set[Place] = field(default_factory=set)
    taken: Table | None = None
    reader: TableReader | None = None


_NOBODY = Traits("", (), ())
"""In no namespace, so that no policy selects it."""


class PolicyIndex:
    """Takes policies, pods and namespaces in any order, and gives the tables of the pods that it follows: ours.

    `apply_pod` is about the pods of the whole cluster, needed only while `names_pods`; `apply_namespace` while
    `names_namespaces`. After any change `take_changed` says whose table is another one.
    """

    def __init__(self) -> None:
        self._policies: dict[str, dict[str, Policy]] = {}
        self._followed: dict[str, Traits] = {}
        self._group_of: dict[str, GroupKey] = {}
        self._groups: dict[GroupKey, _Group] = {}
        self._regrouped: set[str] = set()
        self._peers: dict[str, Peer] = {}
        self._at: dict[Place, dict[str, Traits]] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._traits: dict[Traits, Traits] = {}

    def apply_policy(self, item: Json) -> None:
        """A policy that was added or changed."""
        policy = parse_policy(item)
        known = self._policies.setdefault(policy.namespace, {})
        if known.get(policy.name) != policy:
            known[policy.name] = policy
            self._regroup(policy.namespace, policy.key)

    def remove_policy(self, namespace: str, name: str) -> None:
        known = self._policies.get(namespace, {})
        if known.pop(name, None) is not None:
            if not known:
                del self._policies[namespace]
            self._regroup(namespace, f"{namespace}/{name}")

    def follow(self, uid: str, pod: Json) -> bool:
        """One of our pods, new or changed. Whether that makes a difference."""
        known = self._followed.get(uid)
        if known is not None and (known is _NOBODY or has_labels(pod, known.labels)):
            return False  # nothing else that counts here can be changed in a pod
        traits = _NOBODY if (pod.get("spec") or {}).get("hostNetwork") else parse_traits(pod)
        self._followed[uid] = traits
        self._join(uid)
        return True

    def forget(self, uid: str) -> bool:
        """Whether it was followed."""
        if self._followed.pop(uid, None) is None:
            return False
        self._leave(uid)
        return True

    def names_pods(self, uid: str | None = None) -> bool:
        """Whether the table of a followed pod (None: of any) depends on the pods of the cluster."""
        return any(group.compiled.names_pods for group in self._groups_of(uid))

    def names_namespaces(self, uid: str | None = None) -> bool:
        """Whether it depends on the labels of namespaces."""
        return any(policy.names_namespaces for group in self._groups_of(uid) for policy in group.policies)

    def is_too_large(self, uid: str) -> bool:
        """Whether the policies of a followed pod are more than can be compiled in a direction: nothing is allowed in it
        then."""
        return bool(self._groups[self._group_of[uid]].compiled.too_large)

    def policies_of(self, uid: str) -> tuple[str, ...]:
        """The policies (namespace/name) that select a followed pod."""
        return self._group_of[uid][0]

    def follows(self, uid: str) -> bool:
        return uid in self._followed

    def compile_some(self, limit: int) -> bool:
        """Look at `limit` addresses that have changed; True when none is left, so that `table` costs little."""
        for group in self._groups.values():
            while group.dirty and limit > 0:
                self._update(group, group.dirty.pop())
                limit -= 1
        return self.is_compiled

    @property
    def is_compiled(self) -> bool:
        return not any(group.dirty for group in self._groups.values())

    def table(self, uid: str) -> Table:
        """Of a followed pod. Pods to which the same applies have the same object."""
        return self._freeze(self._groups[self._group_of[uid]])

    def take_changed(self) -> set[str]:
        """The followed pods whose table is new or another one than it was at the last call."""
        changed, self._regrouped = self._regrouped & self._followed.keys(), set()
        for group in self._groups.values():
            before, group.taken = group.taken, self._freeze(group)
            if group.taken is not before:
                changed |= group.members
        return changed

    def judge(self, uid: str, connection: Connection) -> Judgement:
        """What the policies of a followed pod say of a new connection. Raises ValueError for what is no address."""
        _, own = self._group_of[uid]
        group = self._groups[self._group_of[uid]]
        isolating = [policy for policy in group.policies if connection.direction in policy.rules]
        pods = tuple(self._at.get(find_place(connection.address), {}).values())
        table = self._freeze(group)
        if group.reader is None or group.reader.table is not table:
            group.reader = TableReader(table)
        allowed = group.reader.accepts(connection)
        return Judgement(
            isolated_by=tuple(policy.key for policy in isolating),
            allowed=allowed,
            rule=find_rule(isolating, connection, own, pods, self._namespaces.get) if allowed else None,
            too_large=connection.direction in group.compiled.too_large,
        )

    def find_policy(self, key: str) -> Policy | None:
        """By namespace/name."""
        namespace, _, name = key.partition("/")
        return self._policies.get(namespace, {}).get(name)

    def apply_pod(self, uid: str, pod: Json) -> None:
        """A pod of the cluster, new or changed."""
        self._set_peer(uid, parse_peer(pod))

    def remove_pod(self, uid: str) -> None:
        self._set_peer(uid, None)

    def forget_pods(self) -> None:
        """They are not followed any more, as no table needs them."""
        for uid in list(self._peers):
            self._set_peer(uid, None)

    def apply_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """A namespace, new or with other labels."""
        self._set_namespace(name, dict(labels))

    def remove_namespace(self, name: str) -> None:
        self._set_namespace(name, None)

    def forget_namespaces(self) -> None:
        for name in list(self._namespaces):
            self._set_namespace(name, None)

    def _regroup(self, namespace: str, changed: str) -> None:
        for uid in [uid for uid, traits in self._followed.items() if traits.namespace == namespace]:
            self._join(uid, changed)

    def _join(self, uid: str, changed: str = "") -> None:
        """Put a pod into the group of the policies that select it. changed: a policy that is another one now."""
        traits = self._followed[uid]
        labels = dict(traits.labels)
        known = self._policies.get(traits.namespace, {})
        chosen = tuple(known[name] for name in sorted(known) if known[name].selects(traits.namespace, labels))
        key = tuple(policy.key for policy in chosen), _named(chosen, traits.ports)
        if self._group_of.get(uid) == key and changed not in key[0]:
            return
        self._leave(uid)
        group = self._groups.get(key)
        if group is None or group.policies != chosen:
            compiled = CompiledPolicies(chosen, key[1])
            members = group.members if group else set()
            group = self._groups[key] = _Group(
                chosen, compiled, members, set(self._at) if compiled.names_pods else set()
            )
        group.members.add(uid)
        self._group_of[uid] = key
        self._regrouped.add(uid)

    def _leave(self, uid: str) -> None:
        key = self._group_of.pop(uid, None)
        if key is not None:
            group = self._groups[key]
            group.members.discard(uid)
            if not group.members:
                del self._groups[key]

    def _groups_of(self, uid: str | None) -> Iterable[_Group]:
        return self._groups.values() if uid is None else (self._groups[self._group_of[uid]],)

    def _freeze(self, group: _Group) -> Table:
        while group.dirty:
            self._update(group, group.dirty.pop())
        return group.compiled.freeze()

    def _update(self, group: _Group, place: Place) -> None:
        group.compiled.update(place, tuple(self._at.get(place, {}).values()), self._namespaces.get)

    def _set_peer(self, uid: str, peer: Peer | None) -> None:
        before = self._peers.pop(uid, None)
        if before == peer:
            if before is not None:
                self._peers[uid] = before
            return
        for place in before.places if before else ():
            there = self._at[place]
            del there[uid]
            if not there:
                del self._at[place]
            self._mark(place)
        if peer is not None:
            traits = self._intern(peer.traits)
            self._peers[uid] = Peer(traits, peer.places)
            for place in peer.places:
                self._at.setdefault(place, {})[uid] = traits
                self._mark(place)

    def _intern(self, traits: Traits) -> Traits:
        """Pods of one template share what they have in common."""
        if len(self._traits) > 2 * len(self._peers) + 1024:
            self._traits = {peer.traits: peer.traits for peer in self._peers.values()}
        return self._traits.setdefault(traits, traits)

    def _set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        if self._namespaces.get(name) == labels:
            return
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        for group in self._groups.values():
            group.compiled.forget_matches()
        for peer in self._peers.values():
            if peer.traits.namespace == name:
                for place in peer.places:
                    self._mark(place)

    def _mark(self, place: Place) -> None:
        for group in self._groups.values():
            if group.compiled.names_pods:
                group.dirty.add(place)


def _named(policies: Sequence[Policy], ports: tuple[NamedPort, ...]) -> tuple[NamedPort, ...]:
    """The pod's ports that ingress rules name."""
    if not policies:
        return ()
    rules = (rule for policy in policies for rule in policy.rules.get("ingress", ()))
    names = {port.name for rule in rules for port in rule.ports or ()}
    return tuple(port for port in ports if port.name in names)
