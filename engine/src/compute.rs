//! What a session computes on: the cores that are free now, and a flag that stops it.
//!
//! The engine makes no threads of its own accord. Whoever runs sessions makes one [`Crew`] for the machine and enters a
//! [`Context`] around each command. It is found through the thread, as a span of `tracing` is: three hundred kernels need not
//! pass it on, and outside of one everything runs on one core and to its end.
//!
//! Where a command can be stopped it can also be interrupted: [`Turns`] says whether others shall compute first. A helper
//! leaves as soon as there are more threads than cores.
//!
//! Invariant: who does a part of the work never changes a bit. What is split is what has nothing to do with each other (rows,
//! images, blocks of elements), so the split may follow the cores that are free.

use std::{
    cell::RefCell,
    fmt::Debug,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering},
    },
    thread,
};

use crate::error::Error;

/// Most threads that work on one op. Kernels price the memory that each needs for itself by it.
pub(crate) const MAX_WIDTH: usize = 8;

/// Work for which a helper that is awake is worth asking, in nanoseconds. It begins within a microsecond, and takes what it
/// reads from another core's cache.
const WORTH_A_CORE: u64 = 25_000;

/// Work for which a helper that sleeps is worth waiting for, in nanoseconds: a virtual machine takes some 50 microseconds to
/// wake one.
const WORTH_WAKING: u64 = 200_000;

/// How often a helper without work looks for some before it goes to sleep: for a fraction of a millisecond, unless others
/// want its core, to whom it leaves that each time.
const LOOKS: u32 = 400;

/// How often one who waits for helpers looks whether they are done before it goes to sleep.
const WAITS: u32 = 2_000;

/// Work that lasts long enough to be disturbed, in nanoseconds.
const LONG: u64 = 2_000_000;

/// Most work between two looks at the flag, in nanoseconds.
const MOST_AT_ONCE: u64 = 5_000_000;

/// Elements between two looks at the flag in loops of a few nanoseconds each: less than a millisecond.
pub(crate) fn range() -> usize {
    if is_hurried() { 1 << 8 } else { 1 << 16 }
}

#[cfg(test)]
thread_local! {
    /// Samples are small. In a hurry they count as what takes long.
    pub(crate) static HURRY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn is_hurried() -> bool {
    #[cfg(test)]
    return HURRY.get();
    #[cfg(not(test))]
    false
}

/// About how long products of matrices take, in nanoseconds, by their arithmetic operations.
pub(crate) fn products(flops: u64) -> u64 {
    flops / 64
}

/// About how long elementwise work takes, in nanoseconds, by its elements.
pub(crate) fn elements(count: usize) -> u64 {
    count as u64 / 2
}

/// The threads that help others, and how many cores nobody uses.
#[derive(Debug)]
pub struct Crew {
    helpers: Option<rayon::ThreadPool>,
    idle: AtomicIsize,
    awake: Arc<AtomicUsize>,
}

/// Stops a command, which fails with `CANCELLED`. Kernels see it within some ten milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// Lets others compute while a command is interrupted. The engine holds no lock where it asks.
pub trait Turns: Debug + Send + Sync {
    /// Whether the thread shall make room now. It is asked often, and answers in nanoseconds.
    fn is_over(&self) -> bool;

    /// Returns when the thread may go on.
    fn wait(self: Arc<Self>);
}

/// What a thread that runs a session's commands is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who may help.
    pub crew: Arc<Crew>,
    /// What stops it.
    pub cancel: Cancel,
    /// What interrupts it, if anything does.
    pub turns: Option<Arc<dyn Turns>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

impl Crew {
    /// For a machine with so many cores.
    ///
    /// # Errors
    ///
    /// The operating system may have no threads left.
    pub fn new(cores: usize) -> Result<Arc<Self>, rayon::ThreadPoolBuildError> {
        let helpers = cores.saturating_sub(1).min(MAX_WIDTH - 1);
        let named = |i| format!("helper-{i}");
        let pool = || rayon::ThreadPoolBuilder::new().num_threads(helpers).thread_name(named);
        let helpers = (helpers > 0).then(|| pool().build()).transpose()?;
        let idle = AtomicIsize::new(isize::try_from(cores).unwrap_or(isize::MAX));
        Ok(Arc::new(Self { helpers, idle, awake: Arc::default() }))
    }

    /// Cores that could help now.
    fn spare(&self) -> usize {
        usize::try_from(self.idle.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether more threads compute than there are cores.
    fn is_crowded(&self) -> bool {
        self.idle.load(Ordering::Relaxed) < 0
    }

    /// How many helpers of `wanted` are awake, or were until a moment ago. Wakes the others, without waiting for them: ops
    /// follow on each other, and the next one will find them.
    fn rouse(&self, wanted: usize) -> usize {
        let Some(pool) = &self.helpers else { return 0 };
        let wanted = wanted.min(pool.current_num_threads());
        let awake = self.awake.load(Ordering::Relaxed);
        for _ in awake..wanted {
            self.awake.fetch_add(1, Ordering::Relaxed);
            let watch = Watch(Arc::clone(&self.awake));
            pool.spawn(move || {
                stay_awake();
                drop(watch);
            });
        }
        awake.min(wanted)
    }
}

/// A helper that stays awake. It is counted from when it is called on.
struct Watch(Arc<AtomicUsize>);

/// Does what others have to do, until there was nothing for a while.
fn stay_awake() {
    let mut looks = 0;
    while looks < LOOKS {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => looks = 0,
            Some(rayon::Yield::Idle) | None => {
                looks += 1;
                thread::yield_now();
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cores that are in use, until it is dropped.
struct Taken<'a>(&'a Crew, isize);

impl<'a> Taken<'a> {
    fn one(crew: &'a Crew) -> Self {
        crew.idle.fetch_sub(1, Ordering::Relaxed);
        Self(crew, 1)
    }

    /// A core that is given back for as long as this lives.
    fn left(crew: &'a Crew) -> Self {
        crew.idle.fetch_add(1, Ordering::Relaxed);
        Self(crew, -1)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.idle.fetch_add(self.1, Ordering::Relaxed);
    }
}

impl Cancel {
    /// Stops whatever looks at this.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets the next command run. Only between two commands, by whoever executes them.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Context {
    /// Runs something with this context, on a core that then counts as taken.
    pub fn enter<R>(&self, run: impl FnOnce() -> R) -> R {
        let _taken = Taken::one(&self.crew);
        self.attach(run)
    }

    /// The same for a thread that helps: it makes room by leaving, not by waiting.
    fn of_helper(&self) -> Self {
        Self { turns: None, ..self.clone() }
    }

    /// Fails if it was stopped; before that, makes room for others.
    fn check(&self) -> Result<(), Error> {
        if let Some(turns) = &self.turns
            && !self.cancel.is_cancelled()
            && turns.is_over()
        {
            let _left = Taken::left(&self.crew);
            Arc::clone(turns).wait();
        }
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Runs something with this context, on a core that counts as taken already.
    fn attach<R>(&self, run: impl FnOnce() -> R) -> R {
        struct Restore(Option<Context>);
        impl Drop for Restore {
            fn drop(&mut self) {
                let outer = self.0.take();
                CURRENT.with(|current| *current.borrow_mut() = outer);
            }
        }
        let _restore = Restore(CURRENT.with(|current| current.borrow_mut().replace(self.clone())));
        run()
    }
}

fn current() -> Option<Context> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Fails if the command was stopped, and lets others compute if it is their turn. Runners ask between ops, kernels between
/// parts.
pub(crate) fn check() -> Result<(), Error> {
    let stops = CURRENT.with(|current| {
        let current = current.borrow();
        let context = current.as_ref()?;
        let pauses = context.turns.as_ref().is_some_and(|turns| turns.is_over());
        // The thread may be gone for long, and must not hold the cell meanwhile.
        (pauses || context.cancel.is_cancelled()).then(|| context.clone())
    });
    stops.map_or(Ok(()), |context| context.check())
}

/// Looks at the flag whenever about as many elements as a [`range`] were worked on.
#[derive(Debug, Default)]
pub(crate) struct Looks(usize);

impl Looks {
    /// Notes that so many elements were worked on.
    pub(crate) fn after(&mut self, elements: usize) -> Result<(), Error> {
        self.0 += elements;
        if self.0 < range() {
            return Ok(());
        }
        self.0 = 0;
        check()
    }
}

/// The numbers below `count` in ranges, with a look at the flag before each but the first: for loops of a few nanoseconds
/// an element that are not split.
pub(crate) fn ranges(count: usize) -> impl Iterator<Item = Result<Range<usize>, Error>> {
    let size = range();
    (0..count).step_by(size).map(move |start| {
        if start > 0 {
            check()?;
        }
        Ok(start..count.min(start + size))
    })
}

/// How many cores are best used for work of so many nanoseconds now.
pub(crate) fn cores(work: u64) -> usize {
    if work < WORTH_A_CORE {
        return 1;
    }
    let helpers = CURRENT.with(|current| {
        current.borrow().as_ref().map_or(0, |Context { crew, .. }| {
            let (spare, awake) = (crew.spare(), crew.rouse(crew.spare()));
            if work < WORTH_WAKING { awake } else { spare }
        })
    });
    helpers.min(MAX_WIDTH - 1) + 1
}

/// In how many parts work of so many nanoseconds, which falls into so many pieces, is best split now.
pub(crate) fn parts(work: u64, pieces: usize) -> usize {
    let least = work.div_ceil(if is_hurried() { 1000 } else { MOST_AT_ONCE });
    let cores = cores(work) as u64;
    // Two parts a core, so that one that is held up does not hold up all; but each part packs factors anew, or the like.
    let most = if cores > 1 && work > LONG { 2 * cores } else { cores };
    let worth = (work / WORTH_A_CORE).max(1);
    let parts = most.min(worth).max(least);
    usize::try_from(parts).unwrap_or(usize::MAX).clamp(1, pieces.max(1))
}

/// Does each part of some work, on this thread and on cores that are free.
///
/// # Errors
///
/// Fails as the first part would that fails, or because it was stopped.
pub(crate) fn each<T: Send>(
    parts: Vec<T>,
    work: impl Fn(T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let context = if parts.len() > 1 { current() } else { None };
    let Some(context) = &context else {
        return parts.into_iter().try_for_each(work);
    };
    let crew = &context.crew;
    let helpers = crew.spare().min(parts.len() - 1).min(MAX_WIDTH - 1);
    let Some(pool) = crew.helpers.as_ref().filter(|_| helpers > 0) else {
        return parts.into_iter().try_for_each(|part| context.check().and_then(|()| work(part)));
    };
    let queue = Mutex::new(parts.into_iter().enumerate());
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    // Takes parts while it may; the thread that runs the session may to the end.
    let help = |context: &Context, may: &dyn Fn() -> bool| {
        while may()
            && let Some((position, part)) = next()
        {
            if let Err(error) = context.check().and_then(|()| work(part)) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| position < *first) {
                    *failed = Some((position, error));
                }
                return;
            }
        }
    };
    let helping = AtomicUsize::new(helpers);
    pool.in_place_scope(|scope| {
        for _ in 0..helpers {
            let taken = Taken::one(crew);
            let helping = &helping;
            scope.spawn(move |_| {
                // It gives its core back when it leaves, not when the work is done.
                let _taken = taken;
                let context = context.of_helper();
                // They look at the flag within their parts, too.
                context.attach(|| help(&context, &|| !crew.is_crowded()));
                helping.fetch_sub(1, Ordering::Release);
            });
        }
        help(context, &|| true);
        // The scope waits for them asleep, and to wake takes longer than what they still have to do.
        for _ in 0..WAITS {
            if helping.load(Ordering::Acquire) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, e)| Err(e))
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, time::Instant};

    use super::*;
    use crate::{
        array::{Array, Tensor},
        attrs::{Attr, Attrs},
        aval::Shape,
        exec,
        ledger::Ledger,
        op::OpDef,
        ops::{
            ADD, AVG_POOL, CONVOLUTION, CONVOLUTION_FILTER_GRADIENT, CONVOLUTION_INPUT_GRADIENT,
            CUMSUM, GELU, LAYER_NORMALIZATION, LAYER_NORMALIZATION_GRADIENT, MATMUL, MAX_POOL,
            REDUCE_MAX, REDUCE_SUM, SCALED_DOT_PRODUCT_ATTENTION,
            SCALED_DOT_PRODUCT_ATTENTION_GRADIENT, SOFTMAX, SOFTMAX_CROSS_ENTROPY_GRADIENT,
            SOFTMAX_CROSS_ENTROPY_WITH_LOGITS, SOFTMAX_GRADIENT, TANH, TRANSPOSE, WHERE,
        },
    };

    fn context(cores: usize) -> Context {
        Context { crew: Crew::new(cores).unwrap(), cancel: Cancel::default(), turns: None }
    }

    #[test]
    fn every_part_is_done_once_and_the_first_failure_is_told() {
        let context = context(4);
        for failing in [None, Some(3), Some(97)] {
            let done = AtomicUsize::new(0);
            let result = context.enter(|| {
                each((0..100).collect(), |part| {
                    done.fetch_add(1, Ordering::Relaxed);
                    let fails = failing.is_some_and(|first| part >= first);
                    if fails { Err(Error::bug(part.to_string())) } else { Ok(()) }
                })
            });
            match failing {
                None => assert_eq!(done.into_inner(), 100),
                Some(first) => {
                    assert_eq!(result.unwrap_err(), Error::bug(first.to_string()));
                }
            }
        }
        assert_eq!(context.crew.spare(), 4, "every core is given back");
    }

    #[test]
    fn cores_that_others_use_do_not_help() {
        let context = context(2);
        let work = 100 * WORTH_A_CORE;
        assert_eq!(parts(work, 100), 1, "nobody helps outside of a context");
        context.enter(|| {
            assert_eq!(parts(work, 100), 4);
            assert_eq!(parts(LONG / 2, 100), 2);
            assert_eq!(parts(work, 3), 3);
            assert_eq!(parts(1000, 100), 1, "small work is not worth it");
            context.enter(|| assert_eq!(parts(work, 100), 1));
        });
    }

    #[test]
    fn a_helper_is_asked_for_little_once_it_is_awake() {
        let (context, little) = (context(2), 4 * WORTH_A_CORE);
        context.enter(|| {
            assert_eq!(parts(little, 100), 1, "nobody waits for one who sleeps");
            // Being called on counts, so that nobody is called twice.
            assert_eq!(context.crew.awake.load(Ordering::Relaxed), 1);
            assert!(parts(little, 100) <= 2);
            assert!(context.crew.awake.load(Ordering::Relaxed) <= 1);
        });
        while context.crew.awake.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        context.enter(|| assert_eq!(parts(little, 100), 1, "it went to sleep again"));
    }

    /// An op, shapes of its inputs, and attributes.
    type Case<'a> = (&'static OpDef, Vec<&'a [usize]>, Vec<(String, Attr)>);

    /// Attention and its gradients, with a mask of numbers.
    fn attention() -> [Case<'static>; 2] {
        let places: &[usize] = &[3, 200, 4, 30];
        let layout = ("qkv_layout".to_owned(), Attr::Text("BTNH".into()));
        let attrs = vec![("causal".to_owned(), Attr::Bool(true)), layout];
        let inputs = vec![places, places, places, &[4, 1, 1]];
        let with_upstream = inputs.iter().copied().chain([places]).collect();
        [
            (&SCALED_DOT_PRODUCT_ATTENTION, inputs, attrs.clone()),
            (&SCALED_DOT_PRODUCT_ATTENTION_GRADIENT, with_upstream, attrs),
        ]
    }

    /// What is split is large, so the samples of the op table do not reach it.
    #[test]
    fn no_bit_depends_on_who_helps() {
        let ints = |name: &str, values: &[i64]| (name.to_owned(), Attr::Ints(values.into()));
        let yes = |name: &str| (name.to_owned(), Attr::Bool(true));
        let same = ("padding".to_owned(), Attr::Text("SAME".into()));
        let first = ("data_format".to_owned(), Attr::Text("channels_first".into()));
        let (images, filter) = ([8, 30, 31, 8], [3, 3, 8, 16]);
        let cases: Vec<Case> = vec![
            (&MATMUL, vec![&[500, 300], &[300, 200]], vec![]),
            (&MATMUL, vec![&[300, 500], &[300, 100]], vec![yes("transpose_a")]),
            (&MATMUL, vec![&[40, 1, 64, 64], &[3, 64, 70]], vec![]),
            (&ADD, vec![&[700, 1, 300], &[3, 300]], vec![]),
            (&TANH, vec![&[1001, 999]], vec![]),
            (&WHERE, vec![&[999], &[1000, 999], &[1000, 1]], vec![]),
            (&REDUCE_SUM, vec![&[1000, 1001]], vec![ints("axis", &[0])]),
            (&REDUCE_SUM, vec![&[1000, 1001]], vec![ints("axis", &[1])]),
            (&REDUCE_MAX, vec![&[7, 1000, 101]], vec![ints("axis", &[1])]),
            (&REDUCE_SUM, vec![&[1000, 1001]], vec![]),
            (&REDUCE_MAX, vec![&[1000, 1001]], vec![ints("axis", &[1])]),
            (&CUMSUM, vec![&[1000, 1001]], vec![("axis".to_owned(), Attr::Int(1))]),
            (&CUMSUM, vec![&[7, 1000, 101]], vec![("axis".to_owned(), Attr::Int(1))]),
            (&SOFTMAX, vec![&[3000, 301]], vec![]),
            (&SOFTMAX, vec![&[301, 3000]], vec![("axis".to_owned(), Attr::Int(0))]),
            (&SOFTMAX_GRADIENT, vec![&[3000, 301], &[3000, 301]], vec![]),
            (&SOFTMAX_CROSS_ENTROPY_WITH_LOGITS, vec![&[3000, 301], &[3000, 301]], vec![]),
            (&SOFTMAX_CROSS_ENTROPY_GRADIENT, vec![&[3000, 301], &[3000, 301], &[3000]], vec![]),
            (&GELU, vec![&[1001, 999]], vec![]),
            (&LAYER_NORMALIZATION, vec![&[3000, 301], &[301], &[301]], vec![]),
            (&LAYER_NORMALIZATION_GRADIENT, vec![&[3000, 301], &[301], &[3000, 301]], vec![]),
            (&TRANSPOSE, vec![&[1000, 1001]], vec![]),
            (&CONVOLUTION, vec![&images, &filter], vec![same.clone()]),
            (&CONVOLUTION, vec![&[8, 8, 30, 31], &filter], vec![same.clone(), first.clone()]),
            (
                &CONVOLUTION_INPUT_GRADIENT,
                vec![&filter, &[8, 30, 31, 16]],
                vec![same.clone(), ints("shape", &[8, 30, 31, 8])],
            ),
            (
                &CONVOLUTION_FILTER_GRADIENT,
                vec![&images, &[8, 30, 31, 16]],
                vec![same.clone(), ints("shape", &[3, 3, 8, 16])],
            ),
            // By Winograd's algorithm.
            (&CONVOLUTION, vec![&[5, 29, 31, 32], &[3, 3, 32, 40]], vec![same.clone()]),
            (&CONVOLUTION, vec![&[5, 32, 30, 31], &[3, 3, 32, 40]], vec![first]),
            (
                &CONVOLUTION_INPUT_GRADIENT,
                vec![&[3, 3, 32, 40], &[5, 29, 31, 40]],
                vec![same.clone(), ints("shape", &[5, 29, 31, 32])],
            ),
            (&MAX_POOL, vec![&images], vec![ints("ksize", &[3, 2])]),
            (&AVG_POOL, vec![&images], vec![ints("ksize", &[3, 2]), same]),
        ];
        let ledger = Ledger::new("test", 1 << 30);
        for (op, shapes, attrs) in cases.into_iter().chain(attention()) {
            let attrs = Attrs::check(op.attrs, attrs).unwrap();
            let inputs: Vec<Tensor> =
                shapes.iter().map(|shape| tensor(&ledger, op, shape)).collect();
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            let run = || -> Vec<u32> {
                let outputs = exec::run(&ledger, op, &attrs, &inputs).unwrap();
                let elements = |y: &Tensor| y.array().elements::<f32>().unwrap().to_vec();
                outputs.iter().flat_map(elements).map(f32::to_bits).collect()
            };
            let alone = run();
            let helped = context(3).enter(run);
            assert!(alone == helped, "{} of {shapes:?}", op.name);
        }
    }

    /// Numbers of many magnitudes, or truth values for a condition.
    fn tensor(ledger: &Arc<Ledger>, op: &OpDef, shape: &[usize]) -> Tensor {
        let (shape, mut state) = (Shape::from(shape), 7_u32);
        let numbers = (0..shape.elements()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 7e3 - 4.0
        });
        let charge = ledger.reserve(4 * shape.elements() as u64).unwrap();
        let is_condition = op.name == "where" && shape.len() == 1;
        let array = if is_condition {
            Array::new(&shape, numbers.map(|x| x > 0.0).collect())
        } else {
            Array::new(&shape, numbers.collect())
        };
        Tensor::paid(array.unwrap(), charge)
    }

    #[test]
    fn a_long_product_stops_soon_after_the_flag() {
        let ledger = Ledger::new("test", 1 << 30);
        let side = 4096;
        let shape = Shape::from([side, side]);
        let array = Array::new(&shape, vec![1.0_f32; side * side]).unwrap();
        let charge = ledger.reserve(4 * (side * side) as u64).unwrap();
        let x = Tensor::paid(array, charge);
        let context = context(2);
        let cancel = context.cancel.clone();
        let stopped = std::thread::scope(|scope| {
            let crew = &context.crew;
            let stopper = scope.spawn(move || {
                // Both cores are taken once the product has begun.
                while crew.spare() > 0 {
                    std::hint::spin_loop();
                }
                cancel.cancel();
                Instant::now()
            });
            let result = context.enter(|| {
                let attrs = Attrs::check(MATMUL.attrs, Vec::new()).unwrap();
                exec::run(&ledger, &MATMUL, &attrs, &[&x, &x])
            });
            assert_eq!(result.unwrap_err(), Error::Cancelled);
            stopper.join().unwrap()
        });
        // Optimized it takes a tenth of that, and the whole product a second.
        assert!(stopped.elapsed().as_millis() < 500, "{:?}", stopped.elapsed());
    }
}
