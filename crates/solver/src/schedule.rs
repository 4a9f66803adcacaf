//! Doing things that need each other, as many at once as may be.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::exec::Cancel;

/// Calls `work` for each of `0..needs.len()` on up to `jobs` threads, for each after it was done
/// for all that it needs, and gives what came out.
///
/// `needs` must be in topological order: each index in `needs[i]` is below `i`. Where several
/// could be next, the lowest index is.
///
/// # Errors
/// The first error and its index. Nothing is begun after it; what runs then is told by `cancel`,
/// and waited for.
pub(crate) fn run<T: Send + Sync, E: Send>(
    needs: &[Vec<usize>],
    jobs: usize,
    cancel: &Cancel,
    work: impl Fn(usize, &dyn Fn(usize) -> Arc<T>) -> Result<T, E> + Sync,
) -> Result<Vec<Arc<T>>, (usize, E)> {
    let queue = Queue::new(needs);
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, needs.len().max(1)) {
            scope.spawn(|| {
                while let Some(index) = queue.next() {
                    // A panic must wake the others, which would wait forever for its result.
                    let guard = Abort { queue: &queue, cancel };
                    let result = work(index, &|needed| queue.result(needed));
                    std::mem::forget(guard);
                    if result.is_err() {
                        cancel.cancel();
                    }
                    queue.done(index, result);
                }
            });
        }
    });
    let inner = queue.inner.into_inner().unwrap_or_else(PoisonError::into_inner);
    match inner.error {
        Some(error) => Err(error),
        None => Ok(inner.results.into_iter().map(|r| r.expect("all were done")).collect()),
    }
}

struct Queue<T, E> {
    inner: Mutex<Inner<T, E>>,
    /// Something became ready, or there is nothing more to do.
    changed: Condvar,
}

struct Inner<T, E> {
    /// What can be done now, the highest index first.
    ready: Vec<usize>,
    /// For each, of how many that it needs the result is not there.
    missing: Vec<usize>,
    /// For each, who needs it.
    needed_by: Vec<Vec<usize>>,
    results: Vec<Option<Arc<T>>>,
    left: usize,
    error: Option<(usize, E)>,
    aborted: bool,
}

impl<T, E> Queue<T, E> {
    fn new(needs: &[Vec<usize>]) -> Self {
        let mut needed_by = vec![Vec::new(); needs.len()];
        let mut missing = Vec::with_capacity(needs.len());
        for (index, needs) in needs.iter().enumerate() {
            let mut needs = needs.clone();
            needs.sort_unstable();
            needs.dedup();
            missing.push(needs.len());
            for needed in needs {
                debug_assert!(needed < index, "vertices are in topological order");
                needed_by[needed].push(index);
            }
        }
        let ready = (0..needs.len()).rev().filter(|&i| missing[i] == 0).collect();
        let results = needs.iter().map(|_| None).collect();
        let left = needs.len();
        let error = None;
        let inner = Inner { ready, missing, needed_by, results, left, error, aborted: false };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T, E>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<usize> {
        let mut inner = self.lock();
        loop {
            if inner.error.is_some() || inner.aborted || inner.left == 0 {
                return None;
            }
            if let Some(index) = inner.ready.pop() {
                return Some(index);
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn result(&self, index: usize) -> Arc<T> {
        self.lock().results[index].clone().expect("what is needed is done before")
    }

    fn done(&self, index: usize, result: Result<T, E>) {
        let mut inner = self.lock();
        inner.left -= 1;
        match result {
            Ok(result) => {
                inner.results[index] = Some(Arc::new(result));
                for waiting in std::mem::take(&mut inner.needed_by[index]) {
                    inner.missing[waiting] -= 1;
                    if inner.missing[waiting] == 0 {
                        let at = inner.ready.partition_point(|&other| other > waiting);
                        inner.ready.insert(at, waiting);
                    }
                }
            }
            // What fails after the first one fails because it was told to stop.
            Err(error) if inner.error.is_none() => inner.error = Some((index, error)),
            Err(_) => {}
        }
        drop(inner);
        self.changed.notify_all();
    }
}

/// Ends the work of all threads when it is dropped.
struct Abort<'a, T, E> {
    queue: &'a Queue<T, E>,
    cancel: &'a Cancel,
}

impl<T, E> Drop for Abort<'_, T, E> {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.queue.lock().aborted = true;
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// Graphs of up to 30 vertices.
    fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
        let edges = prop::collection::vec(prop::collection::vec(any::<usize>(), 0..4), 0..30);
        edges.prop_map(|all| {
            let needs = all.into_iter().enumerate();
            let below = |(i, needs): (usize, Vec<usize>)| match i {
                0 => Vec::new(),
                i => needs.into_iter().map(|n| n % i).collect(),
            };
            needs.map(below).collect()
        })
    }

    proptest! {
        #[test]
        fn each_is_done_once_and_after_all_that_it_needs(needs in graphs(), jobs in 1usize..5) {
            let counts: Vec<_> = needs.iter().map(|_| AtomicUsize::new(0)).collect();
            let work = |index: usize, result: &dyn Fn(usize) -> Arc<usize>| {
                counts[index].fetch_add(1, Ordering::SeqCst);
                // The length of the longest way down from here.
                Ok::<_, ()>(needs[index].iter().map(|&n| *result(n) + 1).max().unwrap_or(0))
            };
            let depths = run(&needs, jobs, &Cancel::default(), work).unwrap();
            for (index, needs) in needs.iter().enumerate() {
                prop_assert_eq!(counts[index].load(Ordering::SeqCst), 1);
                for &needed in needs {
                    prop_assert!(*depths[needed] < *depths[index]);
                }
            }
        }
    }

    #[test]
    fn what_does_not_need_each_other_runs_at_once() {
        let barrier = Barrier::new(2);
        let work = |index: usize, _: &dyn Fn(usize) -> Arc<()>| {
            if index < 2 {
                // Neither gets past this before the other is here.
                barrier.wait();
            }
            Ok::<_, ()>(())
        };
        let needs = [vec![], vec![], vec![0, 1]];
        assert!(run(&needs, 2, &Cancel::default(), work).is_ok());
    }

    #[test]
    fn after_an_error_nothing_is_begun_and_what_runs_is_told() {
        let (begun, told) = (AtomicUsize::new(0), AtomicBool::new(false));
        let cancel = Cancel::default();
        let barrier = Barrier::new(2);
        let work = |index: usize, _: &dyn Fn(usize) -> Arc<()>| {
            begun.fetch_add(1, Ordering::SeqCst);
            barrier.wait();
            if index == 0 {
                return Err("first");
            }
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            told.store(true, Ordering::SeqCst);
            Err("told")
        };
        let needs = [vec![], vec![], vec![0], vec![]];
        assert_eq!(run(&needs, 2, &cancel, work).unwrap_err(), (0, "first"));
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        assert!(told.load(Ordering::SeqCst));
    }
}
