//! What will happen and when: a queue in order of time, then of asking.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Names a pod: the index of its record.
pub(super) type PodId = usize;
/// Names a machine: the index of its record.
pub(super) type MachineId = usize;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The first wave of a load arrives.
    Arrive(usize),
    /// A pod takes the place of one of the same load: the record of the one before.
    Succeed(PodId),
    /// A pod's process ends well.
    End(PodId),
    /// A machine is billed from now on.
    Running(MachineId),
    /// A machine's Node is ready for pods.
    Ready(MachineId),
    /// EC2 says that it takes a machine back.
    Notice(MachineId),
    /// Protected pods of a machine that is taken have to go.
    Force(MachineId),
    /// A machine is terminated, or taken.
    Terminate(MachineId),
    /// Nothing of a machine is left, its claim and its Node included.
    Forget(MachineId),
    /// A claim that could not be launched is given up.
    GiveUp(usize),
    /// The simulated time is over: pods that run to the end are ended.
    Close,
}

/// The queue; times are milliseconds from the beginning.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    events: BinaryHeap<Reverse<(i64, u64, Event)>>,
    count: u64,
}

impl Agenda {
    /// Adds an event.
    pub(super) fn plan(&mut self, at: i64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    /// When the next event is due.
    pub(super) fn next(&self) -> Option<i64> {
        self.events.peek().map(|Reverse((at, _count, _event))| *at)
    }

    /// Forgets events that are next and do not matter any more.
    pub(super) fn forget(&mut self, is_stale: impl Fn(Event) -> bool) {
        while let Some(Reverse((_at, _count, event))) = self.events.peek()
            && is_stale(*event)
        {
            self.events.pop();
        }
    }

    /// Takes the next event if it is due.
    pub(super) fn take(&mut self, now: i64) -> Option<Event> {
        if self.next()? > now {
            return None;
        }
        self.events.pop().map(|Reverse((_at, _count, event))| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_then_of_asking() {
        let mut agenda = Agenda::default();
        agenda.plan(5, Event::End(1));
        agenda.plan(3, Event::Close);
        agenda.plan(5, Event::Arrive(2));
        assert_eq!((agenda.next(), agenda.take(2)), (Some(3), None));
        assert_eq!(agenda.take(9), Some(Event::Close));
        agenda.plan(4, Event::Notice(8));
        agenda.forget(|event| matches!(event, Event::Notice(_)));
        assert_eq!(agenda.take(9), Some(Event::End(1)));
        assert_eq!(agenda.take(9), Some(Event::Arrive(2)));
        assert_eq!(agenda.take(9), None);
    }
}
