"""Who may serve: every rule by which the registry moves release state (design 4.8, 4.9, 4.12)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.registry.domain.state import (
    Candidate,
    Decision,
    Kind,
    Move,
    ReleaseState,
    Rollout,
    State,
    Version,
)

_SUPERSEDED = "superseded by version {}"


@dataclass(slots=True)
class _Draft:
    """A decision being made: the state so far and the moves that led to it."""

    state: ReleaseState
    moves: list[Move] = field(default_factory=list)
    cause: str = ""

    def move(self, number: int, target: State, kind: Kind, reason: str, other: int = 0) -> None:
        version = self.state.versions[number]
        self.moves.append(Move(number, version.state, target, kind, reason, other))
        gained = int(target is State.CHAMPION and version.state is not State.CHAMPION)
        moved = replace(version, state=target, reason=reason, championships=version.championships + gained)
        self.state = self.state.with_version(moved)

    def set(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def done(self, cause: str = "", regate: str = "") -> Decision:
        """The decision; a new plan has a new epoch."""
        if cause:
            self.set(epoch=self.state.epoch + 1)
        return Decision(self.state, tuple(self.moves), cause, regate=regate)


def refuse(state: ReleaseState, why: str) -> Decision:
    """Nothing changes, and why."""
    return Decision(state, refusal=why)


def decide_candidate(state: ReleaseState, candidate: Candidate, rollout: Rollout, now_us: int) -> Decision:
    """A run ended at its gate. The same run is registered once; when it meets a new gate its evidence is replaced."""
    known = state.by_run(candidate.run_id)
    draft = _Draft(state)
    if known is None:
        number = _register(draft, candidate)
    elif known.state is State.GATED and known.candidate.evidence != candidate.evidence:
        number = known.number
        # The examples are as old as before, whatever gate they meet: a rollback since then still counts.
        first_us = min(known.candidate.clock_us, candidate.clock_us)
        draft.state = state.with_version(replace(known, candidate=replace(candidate, clock_us=first_us)))
    else:
        return refuse(state, f"run {candidate.run_id} is version {known.number} already")
    if not candidate.passed:
        draft.move(number, State.REJECTED, Kind.REJECTED, candidate.reason or "the gate refused it")
        return draft.done()
    draft.move(number, State.GATED, Kind.GATED, candidate.reason or "the gate passed it")
    return _release(draft, number, rollout, now_us)


def _register(draft: _Draft, candidate: Candidate) -> int:
    number = draft.state.last_number + 1
    draft.state = draft.state.with_version(Version(number, candidate, State.NONE))
    reason = f"run {candidate.run_id}" if candidate.run_id else candidate.reason
    draft.move(number, State.REGISTERED, Kind.REGISTERED, reason)
    return number


def _release(draft: _Draft, number: int, rollout: Rollout, now_us: int) -> Decision:
    """A gated version meets the champion: compare-and-swap on the evidence, then the rollout begins."""
    state = draft.state
    candidate = state.versions[number].candidate
    if state.rolled_back_us is not None and candidate.clock_us < state.rolled_back_us:
        _hold(draft, number, "its evidence is from before the rollback: a run on newer labels is needed")
        return draft.done()
    if candidate.evidence.champion != state.champion:
        _hold(draft, number, _stale(candidate, state))
        return draft.done(regate=candidate.run_id)
    if not state.champion:
        return _promote(draft, number, now_us, Kind.RELEASED, "the first version: nothing to compare with")
    if not rollout.steps:
        return _promote(draft, number, now_us, Kind.PROMOTED, "the rollout is direct")
    _retire_challenger(draft, _SUPERSEDED.format(number))
    weight = rollout.steps[0].weight
    target = State.CANARY if weight > 0 else State.SHADOW
    draft.move(number, target, Kind.RELEASED, _share(weight))
    draft.set(challenger=number, step=0, weight=weight)
    return draft.done(Kind.RELEASED)


def _hold(draft: _Draft, number: int, reason: str) -> None:
    draft.move(number, State.GATED, Kind.HELD, reason)


def _stale(candidate: Candidate, state: ReleaseState) -> str:
    gated = f"version {candidate.evidence.champion}" if candidate.evidence.champion else "no champion"
    return f"stale: the gate compared it with {gated}, the champion is version {state.champion or 'none'}"


def _share(weight: float) -> str:
    return f"answers {weight:.0%} of the keys" if weight > 0 else "scored beside the champion, never answered"


def _promote(draft: _Draft, number: int, now_us: int, kind: Kind, reason: str) -> Decision:
    """`number` becomes champion; the old one stays warm; everything that was compared with the old one is over."""
    old = draft.state.champion
    if draft.state.challenger not in (0, number):
        _retire_challenger(draft, _SUPERSEDED.format(number))
    _drop_fallback(draft, f"version {old} takes its place as the warm one")
    draft.move(number, State.CHAMPION, kind, reason, old)
    draft.set(champion=number, challenger=0, step=0, weight=0.0, promoted_us=now_us)
    if old:
        draft.move(old, State.RETIRED, Kind.RETIRED, f"replaced by version {number}; stays warm", number)
        draft.set(fallback=old)
    for waiting in sorted(draft.state.versions):
        if waiting != number and draft.state.versions[waiting].state is State.GATED:
            draft.move(waiting, State.RETIRED, Kind.RETIRED, _SUPERSEDED.format(number), number)
    return draft.done(kind)


def _retire_challenger(draft: _Draft, reason: str) -> None:
    if draft.state.challenger:
        draft.move(draft.state.challenger, State.RETIRED, Kind.RETIRED, reason)
        draft.set(challenger=0, step=0, weight=0.0)


def _drop_fallback(draft: _Draft, reason: str) -> None:
    if draft.state.fallback:
        draft.move(draft.state.fallback, State.RETIRED, Kind.RETIRED, reason)
        draft.set(fallback=0)


def decide_forced(state: ReleaseState, candidate: Candidate, now_us: int) -> Decision:
    """A person releases a version without a gate: champion at once, and audited."""
    draft = _Draft(state)
    number = _register(draft, candidate)
    return _promote(draft, number, now_us, Kind.FORCED, candidate.reason)


def decide_registered(state: ReleaseState, candidate: Candidate) -> Decision:
    """A version from outside, without force: kept and shown, not released."""
    draft = _Draft(state)
    _register(draft, candidate)
    return draft.done()


def decide_advance(state: ReleaseState, number: int, rollout: Rollout, now_us: int, reason: str) -> Decision:
    """The next step of the challenger, or its promotion; stale requests and stale evidence change nothing."""
    if not number or number != state.challenger:
        return refuse(state, f"version {number} is not in canary or shadow (now: {state.challenger or 'none'})")
    draft = _Draft(state)
    candidate = state.versions[number].candidate
    following = state.step + 1
    if following < len(rollout.steps):
        weight = rollout.steps[following].weight
        draft.move(number, State.CANARY, Kind.ADVANCED, reason or _share(weight))
        draft.set(step=following, weight=weight)
        return draft.done(Kind.ADVANCED)
    if candidate.evidence.champion != state.champion:
        why = _stale(candidate, state)
        draft.move(number, State.GATED, Kind.HELD, why)
        draft.set(challenger=0, step=0, weight=0.0)
        return draft.done(Kind.RETIRED, regate=candidate.run_id)
    return _promote(draft, number, now_us, Kind.PROMOTED, reason or "every step was passed")


def decide_hold(state: ReleaseState, number: int, reason: str) -> Decision:
    """The challenger stays where it is, and why is told."""
    if not number or number != state.challenger:
        return refuse(state, f"version {number} is not in canary or shadow (now: {state.challenger or 'none'})")
    draft = _Draft(state)
    draft.move(number, state.versions[number].state, Kind.HELD, reason or "held")
    return draft.done()


def decide_promote(state: ReleaseState, number: int, now_us: int, reason: str) -> Decision:
    """A person promotes a gated version past the rollout; its evidence must still be about the champion."""
    version = state.versions.get(number)
    if version is None or version.state not in (State.GATED, State.SHADOW, State.CANARY):
        return refuse(
            state, f"version {number} is {version.state if version else 'unknown'}: only a gated one is promoted"
        )
    if version.candidate.evidence.champion != state.champion:
        return refuse(state, _stale(version.candidate, state))
    return _promote(_Draft(state), number, now_us, Kind.PROMOTED, reason or "promoted by hand")


def decide_retire(state: ReleaseState, number: int, reason: str) -> Decision:
    """A version leaves the plan or the queue; the champion only goes by being replaced."""
    version = state.versions.get(number)
    draft = _Draft(state)
    if version is None:
        return refuse(state, f"there is no version {number}")
    if number == state.fallback:
        _drop_fallback(draft, reason or "retired")
        return draft.done(Kind.RETIRED)
    if number == state.challenger:
        _retire_challenger(draft, reason or "retired")
        return draft.done(Kind.RETIRED)
    if version.state in (State.GATED, State.REGISTERED):
        draft.move(number, State.RETIRED, Kind.RETIRED, reason or "retired")
        return draft.done()
    return refuse(state, f"version {number} is {version.state} and cannot be retired")


def decide_guard(state: ReleaseState, rollout: Rollout, now_us: int) -> Decision:
    """The warm target leaves the plan when the guard is over on the project's clock."""
    if not state.fallback or now_us - state.promoted_us < rollout.guard_us:
        return refuse(state, "the guard lasts")
    return decide_retire(state, state.fallback, "the guard is over")


def decide_rollback(state: ReleaseState, number: int, target: int, incident: str, reason: str, now_us: int) -> Decision:
    """`number` stops serving. A challenger is rejected; a champion gives way to `target`, a former champion that loads
    (0: the warm one, else the newest). At most one rollback per (version, incident); a stale request does nothing."""
    if incident and (number, incident) in state.incidents:
        return refuse(state, f"version {number} was rolled back for incident {incident} already")
    if not number or number not in (state.champion, state.challenger):
        return refuse(state, f"stale: version {number} does not serve (champion {state.champion or 'none'})")
    draft = _Draft(state)
    if incident:
        draft.set(incidents=state.incidents | {(number, incident)})
    if number == state.challenger:
        draft.move(number, State.REJECTED, Kind.ROLLED_BACK, reason, state.champion)
        draft.set(challenger=0, step=0, weight=0.0, rolled_back_us=now_us)
        return draft.done(Kind.ROLLED_BACK)
    chosen = _rollback_target(state, target)
    if not chosen:
        wanted = f"version {target} is not a former champion that loads" if target else "no version to go back to"
        return refuse(state, wanted)
    draft.move(number, State.REJECTED, Kind.ROLLED_BACK, reason, chosen)
    draft.move(chosen, State.CHAMPION, Kind.RESTORED, f"serves again after the rollback of version {number}", number)
    _retire_challenger(draft, f"its champion, version {number}, was rolled back: new evidence is needed")
    if draft.state.fallback not in (0, chosen):
        _drop_fallback(draft, f"version {chosen} serves again")
    draft.set(champion=chosen, fallback=0, rolled_back_us=now_us)
    return draft.done(Kind.ROLLED_BACK)


def _rollback_target(state: ReleaseState, wanted: int) -> int:
    able = [n for n, v in state.versions.items() if v.can_serve_again]
    if wanted:
        return wanted if wanted in able else 0
    if state.fallback in able:
        return state.fallback
    return max(able, default=0)


def decide_unloadable(state: ReleaseState, number: int, reason: str, now_us: int) -> Decision:
    """No replica can load a version of the plan: it gives way. One that has no successor stays, and is shown."""
    version = state.versions.get(number)
    if version is None or number not in (state.champion, state.challenger, state.fallback):
        return refuse(state, f"version {number} is not in the plan")
    state = state.with_version(replace(version, broken=True))
    if number == state.fallback:
        return decide_retire(state, number, f"does not load: {reason}")
    return decide_rollback(state, number, 0, f"load:{state.epoch}", f"does not load: {reason}", now_us)
