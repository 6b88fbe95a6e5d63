//! Faults on purpose, to prove that the simulator would notice them: what no check notices is a
//! missing check.
//!
//! Where the code has such a place it asks `Mutant::….lives()`. Without the feature `mutants` that
//! is a constant `false`, and nothing of the place is left. With it, the one mutant lives that the
//! thread asked for, so that what decides stays a function of its input.

/// A fault on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "`what` says of each what it does, to people as to readers"
)]
pub enum Mutant {
    SkipReadback,
    CountUnknownAsHealthy,
    SkipSoak,
    KeepSoakOverFlaps,
    ForgetIntent,
    ActBeforeCommit,
    AdoptNothing,
    MakeMoreThanWanted,
    DeleteStrays,
    CountOneSourceTwice,
    BelieveShortLists,
    NeedNoWitnesses,
    ReplaceManyUnmanaged,
    HideMost,
    KeepGeneration,
    TakeOlderGeneration,
    KeepEpoch,
    RunClockWhileAway,
    LetBlueGoBeforeBake,
    RestorePartOfBlue,
    LetGreenGoUnreplaced,
    ForceDrainOnHold,
    KeepIdentity,
    ForgetMachine,
}

impl Mutant {
    /// Whether this build can make any.
    pub const BUILT_IN: bool = cfg!(feature = "mutants");

    /// Whether this fault is made now.
    #[cfg(not(feature = "mutants"))]
    #[inline(always)]
    #[must_use]
    pub const fn lives(self) -> bool {
        false
    }
}

#[cfg(feature = "mutants")]
mod living {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static LIVING: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Ends the mutant also when what runs with it panics.
    struct Ends;

    impl Drop for Ends {
        fn drop(&mut self) {
            LIVING.set(None);
        }
    }

    impl Mutant {
        /// All of them.
        pub const ALL: [Self; 24] = [
            Self::SkipReadback,
            Self::CountUnknownAsHealthy,
            Self::SkipSoak,
            Self::KeepSoakOverFlaps,
            Self::ForgetIntent,
            Self::ActBeforeCommit,
            Self::AdoptNothing,
            Self::MakeMoreThanWanted,
            Self::DeleteStrays,
            Self::CountOneSourceTwice,
            Self::BelieveShortLists,
            Self::NeedNoWitnesses,
            Self::ReplaceManyUnmanaged,
            Self::HideMost,
            Self::KeepGeneration,
            Self::TakeOlderGeneration,
            Self::KeepEpoch,
            Self::RunClockWhileAway,
            Self::LetBlueGoBeforeBake,
            Self::RestorePartOfBlue,
            Self::LetGreenGoUnreplaced,
            Self::ForceDrainOnHold,
            Self::KeepIdentity,
            Self::ForgetMachine,
        ];

        /// Whether this fault is made now, on this thread.
        #[must_use]
        pub fn lives(self) -> bool {
            LIVING.get() == Some(self)
        }

        /// Does something with this fault made, on this thread.
        pub fn during<R>(self, act: impl FnOnce() -> R) -> R {
            let _ends = Ends;
            LIVING.set(Some(self));
            act()
        }

        /// What it does, in a few words.
        #[must_use]
        pub fn what(self) -> &'static str {
            match self {
                Self::SkipReadback => "a switch is taken for seen without a look",
                Self::CountUnknownAsHealthy => "an agent that said healthy once counts for ever",
                Self::SkipSoak => "green need not stay healthy",
                Self::KeepSoakOverFlaps => "a flap does not start the soak again",
                Self::ForgetIntent => "a new instance is not committed",
                Self::ActBeforeCommit => "a plan is carried out before it is committed",
                Self::AdoptNothing => "a machine that is there is asked for again",
                Self::MakeMoreThanWanted => "one of a fleet is overlooked, and another made",
                Self::DeleteStrays => "a machine that nobody knows is deleted",
                Self::CountOneSourceTwice => "session and probe count as two sources",
                Self::BelieveShortLists => "a list that lacks most machines is believed",
                Self::NeedNoWitnesses => "silence counts while all are silent",
                Self::ReplaceManyUnmanaged => "any number of unmanaged instances are replaced",
                Self::HideMost => "every failing entry is hidden",
                Self::KeepGeneration => "a new wanted state keeps its generation",
                Self::TakeOlderGeneration => "an agent obeys an older generation",
                Self::KeepEpoch => "a coordinator that starts keeps the epoch",
                Self::RunClockWhileAway => "deadlines go on while the coordinator is away",
                Self::LetBlueGoBeforeBake => "blue leaves when clients have settled",
                Self::RestorePartOfBlue => "a rollback lets all but one of blue go",
                Self::LetGreenGoUnreplaced => "green leaves though no blue serves",
                Self::ForceDrainOnHold => "the drain's time ends what a person is to end",
                Self::KeepIdentity => "an instance goes and its identity stays",
                Self::ForgetMachine => "an instance is forgotten before its machine is gone",
            }
        }
    }
}
