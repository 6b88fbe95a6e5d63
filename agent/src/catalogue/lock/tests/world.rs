//! Two machines of one fleet, a Consul, and everything that may happen to them in any order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens next. Numbers are those of machines.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// So many milliseconds pass.
    Passes(u64),
    /// The machine is wanted to work, or not, or nobody says.
    Wanted(usize, Option<WorkloadOrder>),
    /// Consul does what the machine asked; its answer comes later.
    Done(usize),
    /// The answer comes, or none does.
    Answered(usize, bool),
    /// The machine sees the lock.
    Seen(usize),
    /// The agent is killed and started again, and finds its session on disk, or an older one.
    Restarted(usize, Disk),
    /// What was told to stop in order has stopped.
    Stopped(usize),
    /// Somebody deletes the lock.
    Deleted,
    /// Consul ends the sessions that it may end.
    Ended,
}

/// What a later run of the agent finds on disk.
#[derive(Debug, Clone, Copy)]
enum Disk {
    /// All of it.
    Whole,
    /// Nothing of this session.
    Full,
    /// The session before.
    Older,
}

/// What a runner does.
#[derive(Debug, Default)]
struct Runner {
    /// The fence of what it is to run.
    spec: Option<u64>,
    runs: bool,
    stopping: bool,
    lease: Duration,
}

struct Machine {
    lock: Lock,
    wanted: Option<WorkloadOrder>,
    runner: Runner,
    /// What was asked, when, and what came of it.
    asked: Option<(Ask, Duration, Option<Answer>)>,
    /// When each session's last successful renewal was sent.
    renewed: BTreeMap<SessionId, Duration>,
    /// The highest fence that it worked with.
    fence: u64,
}

#[derive(Default)]
struct Consul {
    /// Each session with the last time that it was renewed.
    sessions: BTreeMap<SessionId, Duration>,
    /// Whose they are, or were.
    owners: BTreeMap<SessionId, usize>,
    holder: Holder,
    made: u8,
    index: u64,
    /// Of a deleted lock: the real one begins again, and this one does not need to.
    fences: u64,
}

impl Consul {
    fn does(&mut self, number: usize, ask: &Ask, now: Duration) -> Answer {
        match ask {
            Ask::Create => {
                self.made += 1;
                self.owners.insert(id(self.made), number);
                self.sessions.insert(id(self.made), now);
                Answer::Created(id(self.made))
            }
            Ask::Look => Answer::Holds(self.holder.clone()),
            Ask::Find => {
                let session = self.holder.session.clone();
                let ours = session.filter(|session| self.owners[session] == number);
                Answer::Found(ours.map(|session| Held {
                    session,
                    fence: self.holder.fence,
                    index: self.holder.index,
                }))
            }
            Ask::Acquire(session) => {
                if !self.sessions.contains_key(session) {
                    return Answer::Failed("invalid session".into());
                }
                if self.holder.session.is_none() {
                    self.fences += 1;
                    self.change(Some(session.clone()));
                }
                Answer::Holds(self.holder.clone())
            }
            Ask::Renew(session) => match self.sessions.get_mut(session) {
                Some(renewed) => {
                    *renewed = now;
                    Answer::Renewed
                }
                None => Answer::Gone,
            },
            Ask::Release(session) => {
                if self.holder.session.as_ref() == Some(session) {
                    self.change(None);
                }
                Answer::Released
            }
            Ask::Destroy(session) => {
                self.end(session);
                Answer::Destroyed
            }
        }
    }

    fn change(&mut self, session: Option<SessionId>) {
        self.index += 1;
        self.holder = Holder {
            session,
            instance: None,
            fence: self.fences,
            index: self.index,
        };
    }

    fn end(&mut self, session: &SessionId) {
        self.sessions.remove(session);
        if self.holder.session.as_ref() == Some(session) {
            self.change(None);
        }
    }
}

struct World {
    now: Duration,
    consul: Consul,
    machines: Vec<Machine>,
    /// Somebody has taken the lock away from who works with it.
    meddled: bool,
}

impl World {
    fn new() -> Self {
        let machine = || Machine {
            lock: Lock::new(None, NOW),
            wanted: None,
            runner: Runner::default(),
            asked: None,
            renewed: BTreeMap::new(),
            fence: 0,
        };
        Self {
            now: NOW,
            consul: Consul::default(),
            machines: vec![machine(), machine()],
            meddled: false,
        }
    }

    fn happens(&mut self, what: Happens) {
        let now = self.now;
        match what {
            Happens::Passes(ms) => self.now += Duration::from_millis(ms),
            Happens::Wanted(number, wanted) => self.machines[number].wanted = wanted,
            Happens::Done(number) => {
                if let Some((ask, _, answer @ None)) = &mut self.machines[number].asked {
                    *answer = Some(self.consul.does(number, ask, now));
                }
            }
            Happens::Answered(number, comes) => self.machines[number].answered(comes, now),
            Happens::Seen(number) => {
                let holder = self.consul.holder.clone();
                let lock = &mut self.machines[number].lock;
                if lock.watches() {
                    lock.seen(holder, now);
                }
            }
            Happens::Restarted(number, disk) => {
                let machine = &mut self.machines[number];
                let session = machine.lock.session().cloned();
                let kept = match disk {
                    Disk::Whole => session,
                    Disk::Full => None,
                    Disk::Older => {
                        let mine = machine.renewed.keys().rev();
                        let mut older = mine.filter(|one| Some(*one) < session.as_ref());
                        older.next().cloned()
                    }
                };
                machine.lock = Lock::new(kept, now);
                machine.asked = None;
                machine.wanted = None;
            }
            Happens::Stopped(number) => {
                let runner = &mut self.machines[number].runner;
                if runner.stopping {
                    *runner = Runner {
                        lease: runner.lease,
                        ..Runner::default()
                    };
                }
            }
            Happens::Deleted => {
                self.meddled |= self.machines.iter().any(|machine| machine.runner.runs);
                self.consul.change(None);
            }
            Happens::Ended => {
                let over = self.consul.sessions.clone().into_iter();
                for (session, _) in over.filter(|(_, renewed)| *renewed + TTL < now) {
                    self.consul.end(&session);
                }
            }
        }
        let now = self.now;
        for machine in &mut self.machines {
            machine.turn(now);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut working = self.machines.iter().filter(|machine| machine.runner.runs);
        let (first, second) = (working.next(), working.next());
        prop_assert!(second.is_none() || self.meddled, "two at once");
        if let Some(machine) = first.filter(|_| !self.meddled) {
            prop_assert_eq!(machine.runner.spec, Some(self.consul.holder.fence));
        }
        Ok(())
    }
}

impl Machine {
    fn answered(&mut self, comes: bool, now: Duration) {
        let Some((ask, sent, answer)) = self.asked.take() else {
            return;
        };
        let answer = match answer {
            Some(answer) if comes => answer,
            Some(_) | None => Answer::Failed("silent".into()),
        };
        match (&answer, &ask) {
            (Answer::Created(session), _) | (Answer::Renewed, Ask::Renew(session)) => {
                self.renewed.insert(session.clone(), sent);
            }
            _ => {}
        }
        self.lock.answered(sent, answer, now, 0.5);
    }

    /// A turn of the runner, then one of the keeper, whose commands are carried out at once.
    fn turn(&mut self, now: Duration) {
        self.runner.end_lease(now);
        loop {
            let work = self.runner.work();
            let facts = Facts {
                gate: Gate::Locked,
                wanted: self.wanted,
                work,
            };
            let next = self.lock.next(&facts, now);
            if let Some(Ask::Release(_)) = &next.ask {
                assert_eq!(work, Work::Gone, "given back while it runs");
            }
            if let Some(ask) = next.ask {
                assert!(self.asked.is_none(), "two at once");
                self.asked = Some((ask, now, None));
            }
            if let Some(command) = next.command {
                self.obey(command);
            }
            if let Some(lease) = next.lease {
                let session = self.lock.session().unwrap();
                assert!(lease <= self.renewed[session] + LEASE);
                self.runner.lease = self.runner.lease.max(lease);
            }
            self.start(now);
            if self.runner.work() == work {
                return;
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let runner = &mut self.runner;
        match command {
            Command::Start { fence } => {
                let fence = fence.expect("it needs the lock");
                match runner.spec {
                    Some(before) => assert_eq!(before, fence, "it runs with another"),
                    None => runner.spec = Some(fence),
                }
                runner.stopping = false;
            }
            Command::Stop if runner.runs => runner.stopping = true,
            Command::Stop | Command::Kill => {
                runner.runs = false;
                runner.stopping = false;
                runner.spec = None;
            }
        }
    }

    fn start(&mut self, now: Duration) {
        if let Some(fence) = self.runner.spec
            && !self.runner.runs
            && now < self.runner.lease
        {
            assert!(fence >= self.fence, "an older fence");
            self.fence = fence;
            self.runner.runs = true;
        }
    }
}

impl Runner {
    fn work(&self) -> Work {
        match self.spec {
            Some(_) => Work::Leased,
            None => Work::Gone,
        }
    }

    fn end_lease(&mut self, now: Duration) {
        if now >= self.lease {
            self.runs = false;
            if self.stopping {
                self.spec = None;
                self.stopping = false;
            }
        }
    }
}

fn happens() -> impl Strategy<Value = Happens> {
    use Happens::*;
    let which = 0_usize..2;
    prop_oneof![
        4 => (1_u64..3000).prop_map(Passes),
        1 => (3000_u64..20_000).prop_map(Passes),
        2 => which.clone().prop_map(|number| Wanted(number, Some(WorkloadOrder::Start))),
        1 => which.clone().prop_map(|number| Wanted(number, Some(WorkloadOrder::Stop))),
        8 => which.clone().prop_map(Done),
        8 => which.clone().prop_map(|number| Answered(number, true)),
        1 => which.clone().prop_map(|number| Answered(number, false)),
        2 => which.clone().prop_map(Seen),
        1 => which.clone().prop_map(|number| Restarted(number, Disk::Whole)),
        1 => which.clone().prop_map(|number| Restarted(number, Disk::Full)),
        1 => which.clone().prop_map(|number| Restarted(number, Disk::Older)),
        2 => which.prop_map(Stopped),
        2 => Just(Ended),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_two_are_at_work_and_each_fence_is_higher(
        all in prop::collection::vec(happens(), 1..200),
    ) {
        let mut world = World::new();
        for one in all {
            world.happens(one);
            world.check()?;
        }
    }

    #[test]
    fn a_lock_that_is_deleted_ends_the_work_when_that_is_seen(
        all in prop::collection::vec(happens(), 1..150),
    ) {
        let mut world = World::new();
        for one in all {
            world.happens(one);
        }
        world.happens(Happens::Deleted);
        for number in 0..2 {
            world.happens(Happens::Seen(number));
            let machine = &world.machines[number];
            prop_assert!(!machine.lock.watches() || !machine.runner.runs);
        }
    }
}

/// The world does not only stand still: both come to work, one after the other.
#[test]
fn each_comes_to_work_when_the_other_is_told_to_stop() {
    let mut world = World::new();
    let settle = |world: &mut World| {
        for _ in 0..20 {
            for number in 0..2 {
                world.happens(Happens::Done(number));
                world.happens(Happens::Answered(number, true));
                world.happens(Happens::Seen(number));
            }
            world.check().unwrap();
        }
    };
    let runs = |world: &World| [0, 1].map(|number: usize| world.machines[number].runner.runs);
    for number in 0..2 {
        world.happens(Happens::Wanted(number, Some(WorkloadOrder::Start)));
        settle(&mut world);
    }
    assert_eq!(runs(&world), [true, false]);
    world.happens(Happens::Wanted(0, Some(WorkloadOrder::Stop)));
    settle(&mut world);
    assert_eq!(runs(&world), [true, false], "it takes its time");
    world.happens(Happens::Stopped(0));
    settle(&mut world);
    assert_eq!(runs(&world), [false, true]);
    assert_eq!(world.machines[1].fence, 2);
}

/// Without the session on disk too.
#[test]
fn work_goes_on_over_a_restart_of_its_agent_whatever_is_on_disk() {
    for disk in [Disk::Whole, Disk::Full, Disk::Older] {
        let mut world = World::new();
        let at_work = |world: &mut World, seconds: u64| {
            for _ in 0..seconds * 2 {
                world.happens(Happens::Passes(500));
                world.happens(Happens::Done(0));
                world.happens(Happens::Answered(0, true));
                world.happens(Happens::Ended);
                world.check().unwrap();
            }
            world.machines[0].runner.runs
        };
        let start = Happens::Wanted(0, Some(WorkloadOrder::Start));
        let stop = Happens::Wanted(0, Some(WorkloadOrder::Stop));
        // A first session, which is over, and the one of the restart.
        for what in [start, stop, Happens::Stopped(0), start] {
            world.happens(what);
            at_work(&mut world, 3);
        }
        assert!(at_work(&mut world, 3));
        assert_eq!(world.machines[0].fence, 2);
        world.happens(Happens::Restarted(0, disk));
        for _ in 0..10 {
            assert!(at_work(&mut world, 1), "{disk:?}");
        }
        world.happens(start);
        assert!(at_work(&mut world, 40), "{disk:?}");
        assert_eq!(world.machines[0].fence, 2, "{disk:?}");
    }
}
