"""The control loop: fixed rate, absolute deadlines, waits for nothing but its own clock.

Network, disk, encoding and weights live in other threads; this one reads the robot, asks policy
and arbiter, limits, applies, and hands a value to the recorder. Slow work of its own (putting the
scene back, collecting garbage) happens between episodes, where no deadline runs.
"""

import gc
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable

import numpy as np

from fleet.agent.acting import Acting
from fleet.agent.arbiter import Arbiter
from fleet.agent.clock import Clock
from fleet.agent.decisions import Decision, View
from fleet.agent.drivers.base import Driver, Reading
from fleet.agent.episodes import EpisodePlan, Planner
from fleet.agent.loopstats import LoopMeter
from fleet.agent.policies import PolicyKeeper
from fleet.agent.priority import in_real_time, out_of_the_way
from fleet.agent.recorder import EpisodeEnd, RecordedTick, Recorder
from fleet.agent.safety import SafetyGate
from fleet.agent.situation import PAUSE, Glimpse, Moment, Running, Situation
from fleet.agent.spool import Spool
from fleet.agent.trials import Trials
from fleet.agent.values import ValueKeeper
from fleet.agent.valuing import NONE, Valuing
from fleet.protocol import messages as m
from fleet.protocol.control import Mode
from fleet.protocol.episode import EpisodeHeader, Step

log = logging.getLogger(__name__)

AGENT_VERSION = "1"
# Holding is recorded this long, then only its end: nothing is learned from a robot at rest.
MAX_HOLD_RECORDED_S = 10.0
RECENT_OUTCOMES = 20
# Exceptions in a row before the loop gives up and lets its supervisor start it anew.
MAX_FAILURES = 20
_FAILUREPAUSE_S = 0.5
_MARKS: dict[m.Outcome, str] = {"success": "s", "failure": "f", "timeout": "t", "abort": "a"}


class Runtime:
    """Runs episodes, one after another, at the robot's rate.

    Args:
        tell: Called every tick with what telemetry is made of.
        rtt_ms: Returns the link's last round trip.
        counted: Called when an episode is counted, to keep the planner's progress on disk.
        scene_ready: Called once there is something to render.
        watched: Says whether people look; then images are taken between episodes too.
        trials: What the robot is ordered to evaluate; None on a robot that never is.
        values: Keeps the value function; None on a robot that computes none.
        make_uid: Names the next episode; drawn from a seed where runs are to repeat.
        realtime: Schedule the loop's thread before everything else on the machine, if allowed.
        phase: Where between two pictures an episode begins, on the machine's monotonic clock, so
            that robots of one machine take turns with what costs most; None is anywhere.
    """

    def __init__(
        self,
        *,
        robot: str,
        driver: Driver,
        clock: Clock,
        arbiter: Arbiter,
        planner: Planner,
        policies: PolicyKeeper,
        recorder: Recorder,
        spool: Spool,
        tell: Callable[[Moment], None] = lambda moment: None,
        rtt_ms: Callable[[], float] = lambda: 0.0,
        counted: Callable[[], None] = lambda: None,
        scene_ready: Callable[[], None] = lambda: None,
        watched: Callable[[], bool] = lambda: False,
        trials: Trials | None = None,
        values: ValueKeeper | None = None,
        make_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
        realtime: bool = False,
        phase: float | None = None,
    ) -> None:
        self._robot = robot
        self._driver = driver
        self._clock = clock
        self._arbiter = arbiter
        self._planner = planner
        self._policies = policies
        self._trials = trials
        self._values = values
        self._valuing = Valuing(values)
        self.acting = Acting(policies)
        self._recorder = recorder
        self._spool = spool
        self._tell = tell
        self._rtt_ms = rtt_ms
        self._counted = counted
        self._scene_ready = scene_ready
        self._watched = watched
        self._make_uid = make_uid
        self._realtime = realtime
        self._phase = phase
        self.gate = SafetyGate(driver.spec)
        self.meter = LoopMeter()
        self.situation = Situation(waiting="the agent starts")
        self.recent: deque[str] = deque(maxlen=RECENT_OUTCOMES)
        self.failed = False
        self._assignment: m.Assignment | None = None
        self._running: Running | None = None
        self._may_begin_ns = clock.monotonic_ns()
        self._has_scene = False
        self._telemetry_seq = 0
        # What people may see without another rendering.
        self.glimpse: Glimpse | None = None
        self._stopping = threading.Event()
        self._period_ns = int(1e9 / driver.spec.control_hz)
        self._thread = threading.Thread(target=self.run, name="control", daemon=True)

    # ---- for other threads -----------------------------------------------------------------

    def assign(self, assignment: m.Assignment) -> None:
        """Use `assignment` from the next episode on; a trial it no longer orders ends at once."""
        self._assignment = assignment
        if self._trials is not None:
            self._trials.assign(assignment.order)

    @property
    def evaluation(self) -> str:
        """The evaluation whose version acts now; empty in normal work."""
        if self._trials is None or not self.acting.on_trial:
            return ""
        return self._trials.evaluation

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the running episode as aborted, and the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def abort(self) -> None:
        """End the running episode, if any, as aborted; for the loop's own thread."""
        if self._running is not None:
            self._end("abort", "robot")

    @property
    def may_begin_ns(self) -> int:
        """When the scene is put back: no episode begins earlier (monotonic clock)."""
        return self._may_begin_ns

    @property
    def alive(self) -> bool:
        """Whether the loop still runs."""
        return self._thread.is_alive()

    # ---- the loop --------------------------------------------------------------------------

    def run(self) -> None:
        """Tick at the robot's rate until stopped."""
        failures = 0
        if self._realtime:
            in_real_time()
        # The collector would stop the loop for tens of milliseconds; it runs between episodes.
        gc.collect()
        gc.freeze()
        gc.disable()
        deadline_ns = self._first_tick_ns()
        while not self._stopping.is_set():
            self._clock.sleep_until(deadline_ns)
            start_ns = self._clock.monotonic_ns()
            try:
                on_time = self.tick()
                failures = 0
            except Exception as error:
                failures += 1
                on_time = False
                self._fail(error, failures)
                if failures >= MAX_FAILURES:
                    self.failed = True
                    break
            end_ns = self._clock.monotonic_ns()
            if not on_time:
                deadline_ns = self._first_tick_ns()
                continue
            missed = max(0, (end_ns - deadline_ns) // self._period_ns - 1)
            self.meter.tick(
                late_ns=start_ns - deadline_ns, busy_ns=end_ns - start_ns, missed=missed
            )
            deadline_ns += self._period_ns * (1 + missed)
        self.abort()
        gc.enable()
        if not self.failed:
            # After a failure the process ends, and the driver's own threads are in what state?
            self._driver.close()

    def _first_tick_ns(self) -> int:
        """Return when ticks begin anew: now, or at this robot's place among the pictures."""
        now_ns = self._clock.monotonic_ns()
        if self._phase is None:
            return now_ns
        picture_ns = self._period_ns * self._driver.spec.image_every
        return now_ns + (int(self._phase * picture_ns) - now_ns) % picture_ns

    def _fail(self, error: Exception, failures: int) -> None:
        if failures == 1:
            log.error("loop: the robot failed; holding", exc_info=error)
        self._arbiter.fail(f"the robot failed: {error}"[:400])
        self.abort()
        # It may have failed on its way into an episode.
        self._arbiter.end_episode()
        self._clock.sleep_until(self._clock.monotonic_ns() + int(_FAILUREPAUSE_S * 1e9))

    def tick(self) -> bool:
        """Run one control period. False when it did slow work and deadlines start anew."""
        if self._running is None:
            if self._between():
                return False
            self._idle_tick()
        else:
            self._episode_tick(self._running)
        return True

    # ---- between episodes ------------------------------------------------------------------

    def _between(self) -> bool:
        """Swap policies, and begin the next episode when one is due; say whether that was slow."""
        keeper, trial = None, None
        if self._trials is not None and not self._arbiter.driven:
            trial = self._trials.next()
            if trial is not None:
                keeper = self._trials.keeper
            elif self._trials.wait():
                self.situation = PAUSE
                return False
        self.acting.swap(keeper)
        waiting = self._why_wait()
        if waiting is not None:
            if waiting != self.situation.waiting:
                self.situation = Situation(waiting=waiting)
            return self._set_scene()
        if self._clock.monotonic_ns() < self._may_begin_ns:
            self.situation = PAUSE
            return False
        return self._begin(trial)

    def _set_scene(self) -> bool:
        """Give people who look something to see before the first episode; say whether it did.

        In a simulator only: to put a real scene back is to move, which nobody asked for.
        """
        assignment, simulated = self._assignment, self._driver.spec.simulated
        if self._has_scene or not simulated or not assignment or not assignment.tasks:
            return False
        if not self._watched():
            return False
        self._driver.reset(assignment.tasks[0], seed=assignment.train_seed)
        self._has_scene = True
        self._scene_ready()
        return True

    def _why_wait(self) -> str | None:
        if self._assignment is None:
            return "no assignment yet"
        if self._assignment.paused:
            return "paused: the running episode was the last"
        if self._spool.full:
            return self._spool.full_reason
        if self._arbiter.mode in (Mode.HOLDING, Mode.STOPPED):
            return self._arbiter.reason or "holding"
        if self.acting.active is None and not self._arbiter.driven:
            return "no policy yet"
        return None

    def _begin(self, trial: EpisodePlan | None) -> bool:
        assert self._assignment is not None
        uid = self._make_uid()
        plan = trial or self._planner.next(self._assignment, may_evaluate=not self._arbiter.driven)
        if plan is not None and not self._arbiter.begin_episode(uid, plan.purpose):
            # Somebody took the robot this moment: it trains, with the fleet's version.
            self.acting.swap()
            plan = self._planner.next(self._assignment, may_evaluate=False)
            if plan is not None:
                self._arbiter.begin_episode(uid, plan.purpose)
        if plan is None:
            self._assignment = None
            return False
        self._planner.began(plan)
        self._counted()
        self.situation = PAUSE
        with out_of_the_way():
            gc.collect()
            self._driver.reset(plan.task, seed=plan.seed, held_out=plan.purpose == "eval")
        self.gate.rest()
        self.acting.begin(evaluation=plan.purpose == "eval")
        active, value = self.acting.active, self._valuing.begin()
        self._running = Running(
            uid,
            plan,
            active.ref.number if active else -1,
            discarded_before=self._arbiter.discarded_commands,
        )
        self._recorder.begin(
            EpisodeHeader(
                episode=uid,
                robot=self._robot,
                task=plan.task,
                instruction=plan.instruction,
                seed=plan.seed,
                purpose=plan.purpose,
                spec=self._driver.spec,
                started_wall_ns=self._clock.wall_ns(),
                policy_number=active.ref.number if active else None,
                policy_sha256=active.ref.sha256 if active else "",
                trial=plan.trial,
                value_number=value.ref.number if value else None,
                value_sha256=value.ref.sha256 if value else "",
                agent_version=AGENT_VERSION,
            )
        )
        if not self._has_scene:
            self._has_scene = True
            self._scene_ready()
        self.situation = self._running.situation(self._driver.spec.control_hz)
        return True

    def _idle_tick(self) -> None:
        view = self._arbiter.begin_tick()
        if not self._has_scene:
            return
        t_mono_ns, t_wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        due = self._telemetry_seq % self._driver.spec.image_every == 0
        reading = self._driver.read(images=due and self._watched())
        self._glimpse(reading, t_mono_ns, t_wall_ns)
        decision = self._arbiter.decide(view, None)
        applied = self._apply(decision)
        self._telemetry(view, reading, applied, None, NONE, NONE)

    # ---- one step of an episode --------------------------------------------------------------

    def _episode_tick(self, running: Running) -> None:
        t_mono_ns, t_wall_ns = self._clock.monotonic_ns(), self._clock.wall_ns()
        view = self._arbiter.begin_tick()
        spec, plan, controller = self._driver.spec, running.plan, self.acting.controller(view)
        images = running.ticks % spec.image_every == 0 or (
            controller is not None and controller.wants_image
        )
        reading = self._driver.read(images=images)
        if images:
            self._seen(reading, plan.instruction)
            self._glimpse(reading, t_mono_ns, t_wall_ns)
        if self._over(running, view, reading):
            return
        proposal, doubt, chunk_index = None, float("nan"), -1
        if controller is not None:
            proposal, doubt, chunk_index = controller.propose(reading, plan.instruction)
        decision = self._arbiter.decide(view, proposal)
        applied = self._apply(decision)
        # Only now: what nothing acts on may delay no action.
        value = self._valuing.after(reading, plan.instruction, chunk_index)
        running.count(decision)
        if running.held_ticks <= MAX_HOLD_RECORDED_S * spec.control_hz:
            self._recorder.add(
                RecordedTick(
                    step=Step(
                        step=running.ticks,
                        t_mono_ns=t_mono_ns,
                        t_wall_ns=t_wall_ns,
                        state=reading.state,
                        action=applied,
                        policy_action=proposal,
                        operator_action=decision.operator_action,
                        control_mode=int(decision.label),
                        controller=decision.controller,
                        policy_number=running.policy_number,
                        lease_epoch=decision.epoch,
                        doubt=doubt,
                        reward=reading.reward,
                        command_age_ms=decision.command_age_ms,
                        chunk_index=chunk_index,
                        value=value,
                    ),
                    images=reading.images,
                    mode=decision.mode,
                    lease=self._arbiter.holder,
                    dead_man=decision.dead_man,
                    rtt_ms=self._rtt_ms(),
                )
            )
        running.ticks += 1
        self.situation = running.situation(spec.control_hz)
        pending = None if controller is None else controller.pending
        self._telemetry(view, reading, applied, proposal, doubt, value, pending)
        if decision.fault:
            self._end("abort", "robot")
            self.acting.roll_back(self._arbiter.reason)

    def _seen(self, reading: Reading, instruction: str) -> None:
        self._policies.last_seen = (reading, instruction)
        if self._trials is not None:
            self._trials.keeper.last_seen = (reading, instruction)
        if self._values is not None:
            self._values.last_seen = (reading, instruction)

    def _glimpse(self, reading: Reading, t_mono_ns: int, t_wall_ns: int) -> None:
        if reading.images:
            self.glimpse = Glimpse(reading.images, t_mono_ns, t_wall_ns)

    def _over(self, running: Running, view: View, reading: Reading) -> bool:
        """End the episode when it is over; nothing is executed at that reading."""
        judged = self._arbiter.take_outcome()
        if judged is not None:
            self._end(*judged)
        elif view.mode is Mode.STOPPED or self._withdrawn(running):
            self._end("abort", "robot")
        elif reading.success:
            self._end("success", "robot")
        elif running.left_ticks(self._driver.spec.control_hz) == 0:
            self._end("timeout", "robot")
        else:
            return False
        if self._has_scene:
            self._apply(self._arbiter.decide(self._arbiter.begin_tick(), None))
        return True

    def _withdrawn(self, running: Running) -> bool:
        trial = running.plan.trial
        return bool(trial) and self._trials is not None and not self._trials.ordered(trial)

    def _apply(self, decision: Decision) -> np.ndarray:
        action = self.gate.zero_motion() if decision.action is None else decision.action
        applied = self.gate.gate(action, slew=decision.slew)
        self._driver.apply(applied)
        return applied

    def _end(self, outcome: m.Outcome, judge: str) -> None:
        running = self._running
        assert running is not None
        self._running = None
        self._arbiter.end_episode()
        self._recorder.end(
            EpisodeEnd(
                outcome=outcome,
                judge=judge,
                ended_wall_ns=self._clock.wall_ns(),
                discarded_commands=self._arbiter.discarded_commands - running.discarded_before,
            )
        )
        self.recent.append(_MARKS[outcome])
        if outcome != "abort":
            self.acting.keeper.proved()
        reset_s = self._assignment.reset_s if self._assignment else 1.0
        self._may_begin_ns = self._clock.monotonic_ns() + int(reset_s * 1e9)
        self.situation = PAUSE

    def _telemetry(
        self,
        view: View,
        reading: Reading,
        applied: np.ndarray,
        proposal: np.ndarray | None,
        doubt: float,
        value: float,
        plan: np.ndarray | None = None,
    ) -> None:
        moment = Moment(
            self._telemetry_seq,
            self._clock.wall_ns(),
            self.situation,
            view,
            reading,
            applied,
            proposal,
            doubt,
            plan,
            value,
        )
        self._telemetry_seq += 1
        self._tell(moment)
