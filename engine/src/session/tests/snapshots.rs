//! Restores: to the bit, completely or not at all, into other sessions with other handles.

use super::*;
use crate::{
    command::GradientPair,
    optimizers::{self, Given},
    snapshot::{KeyedHandle, RestoreRequest, Restored, Snapshot},
};

/// A model of two variables, an optimizer and a generator, whose handles begin at some number.
struct Model {
    driver: Driver,
    base: Handle,
}

impl Model {
    fn new(optimizer: &str, hyperparameters: Given, base: Handle) -> Self {
        let mut driver = Driver::new(1 << 20);
        for (offset, name) in [(0, "w"), (1, "b")] {
            let name = name.into();
            driver.constant(base + 10, &[0.5, -2.0, 3.25, 0.125]);
            let (variable, initial) = (base + offset, base + 10);
            let kind = Kind::CreateVariable { variable, name, initial, trainable: true };
            driver.apply(kind).unwrap();
            driver.apply(Kind::Release { handles: vec![base + 10] }).unwrap();
        }
        let name = optimizer.into();
        let (optimizer, schedule) = (base + 2, None);
        driver.apply(Kind::CreateOptimizer { optimizer, name, hyperparameters, schedule }).unwrap();
        driver.apply(Kind::CreateGenerator { generator: base + 3, seed: 7 }).unwrap();
        Self { driver, base }
    }

    /// A step whose gradients depend on its number, and a draw.
    fn step(&mut self, number: u8) {
        let (base, x) = (self.base, f32::from(number));
        self.driver.constant(base + 20, &[x, 1.0 - x, 0.3 * x, -1.0]);
        self.driver.constant(base + 21, &[0.7, x * x, -x, 1.0 / (x + 1.0)]);
        let pair = |variable, gradient| GradientPair {
            variable,
            gradient,
            indices: 0,
            exclude_from_weight_decay: false,
            exclude_from_orthogonalization: false,
        };
        let pairs = vec![pair(base, base + 20), pair(base + 1, base + 21)];
        self.driver.apply(Kind::ApplyOptimizer { optimizer: base + 2, pairs }).unwrap();
        let (generator, output) = (base + 3, base + 22);
        self.driver.apply(Kind::NextGeneratorState { generator, output, draws: 5 }).unwrap();
        let handles = vec![base + 20, base + 21, base + 22];
        self.driver.apply(Kind::Release { handles }).unwrap();
    }

    fn snapshot(&self) -> Snapshot {
        self.driver.session.snapshot(&[]).unwrap()
    }

    fn restore(&mut self, snapshot: Snapshot) -> Result<Answer, Error> {
        self.restore_with(|request| request.snapshot = snapshot)
    }

    fn restore_with(&mut self, set: impl FnOnce(&mut RestoreRequest)) -> Result<Answer, Error> {
        let mut request = RestoreRequest {
            snapshot: Snapshot::default(),
            entries: Vec::new(),
            weights_only: false,
            partial: false,
        };
        set(&mut request);
        self.driver.apply(Kind::Restore(Box::new(request)))
    }

    /// Everything that a snapshot shows, as text: equal texts are equal bits.
    fn state(&self) -> String {
        let snapshot = self.snapshot();
        let bits = |tensor: &Tensor| format!("{:?}", tensor.array().as_bytes().unwrap());
        let mut lines = Vec::new();
        for saved in &snapshot.variables {
            lines.push(format!("{} {}", saved.key, bits(&saved.tensor)));
        }
        for saved in &snapshot.optimizers {
            lines.push(format!("{} {:?}", saved.key, saved.optimizer));
            for slot in &saved.slots {
                lines.push(format!("{} {} {}", slot.variable, slot.slot, bits(&slot.tensor)));
            }
        }
        lines.push(format!("{:?}", snapshot.generators));
        lines.join("\n")
    }
}

fn hyperparameters() -> Given {
    use crate::attrs::Attr;
    vec![
        ("use_ema".into(), Attr::Bool(true)),
        ("gradient_accumulation_steps".into(), Attr::Int(2)),
        ("dynamic_loss_scale".into(), Attr::Bool(true)),
        ("dynamic_growth_steps".into(), Attr::Int(3)),
    ]
}

/// In the middle of an accumulation, of an average and of the way to the next loss scale, with every optimizer that there is.
#[test]
fn a_run_goes_on_in_another_session_as_if_nothing_had_been() {
    for def in optimizers::ALL {
        let mut first = Model::new(def.name, hyperparameters(), 1000);
        (0..5).for_each(|i| first.step(i));
        let snapshot = first.snapshot();
        (5..10).for_each(|i| first.step(i));
        let mut second = Model::new(def.name, Given::new(), 7);
        second.step(9);
        let restored = second.restore(snapshot.clone());
        let Ok(Answer::Restored(restored)) = restored else { panic!("{}: {restored:?}", def.name) };
        assert_eq!(restored, Restored { variables: 2, optimizers: 1, generators: 1 });
        (5..10).for_each(|i| second.step(i));
        assert_eq!(first.state(), second.state(), "{}", def.name);
        // A snapshot is not changed by what happened after it.
        first.restore(snapshot).unwrap();
        (5..10).for_each(|i| first.step(i));
        assert_eq!(first.state(), second.state(), "{}", def.name);
    }
}

#[test]
fn an_error_lists_all_that_does_not_fit_and_nothing_changes() {
    let mut saved = Model::new("adam", Given::new(), 1);
    saved.step(1);
    let mut snapshot = saved.snapshot();
    snapshot.variables[0].key = "renamed".into();
    let array = Array::new(&[2].into(), vec![1.0_f64, 2.0]).unwrap();
    snapshot.variables[1].tensor = Tensor::unpaid(array);
    snapshot.optimizers[0].slots[1].slot = "unheard".into();
    snapshot.generators[0].key = "generator.1".into();
    let mut model = Model::new("adam", Given::new(), 1);
    model.step(2);
    let before = model.state();
    let error = model.restore(snapshot.clone()).unwrap_err();
    let Error::CheckpointMismatch { count, details } = &error else { panic!("{error}") };
    assert_eq!(*count, 6, "{details}");
    for part in [
        "variable \"renamed\" is only in the checkpoint",
        "variable \"w\" is not in the checkpoint",
        "variable \"b\" is float64[2] in the checkpoint and float32[4] here",
        "slot \"unheard\" of variable \"w\" in optimizer \"optimizer.0\" is none that adam keeps",
        "generator \"generator.1\" is only in the checkpoint",
        "generator \"generator.0\" is not in the checkpoint",
    ] {
        assert!(details.contains(part), "{part} is not in {details}");
    }
    assert_eq!(model.state(), before);

    let mut other = Model::new("sgd", Given::new(), 1);
    let error = other.restore(saved.snapshot()).unwrap_err();
    let kinds = "optimizer \"optimizer.0\" is adam in the checkpoint and sgd here";
    assert!(error.to_string().contains(kinds), "{error}");
}

#[test]
fn weights_alone_and_parts_are_restored_if_that_is_asked_for() {
    let mut saved = Model::new("adam", Given::new(), 1);
    saved.step(3);
    let mut model = Model::new("sgd", Given::new(), 1);
    let snapshot = saved.snapshot();
    model
        .restore_with(|request| {
            request.snapshot = snapshot;
            request.weights_only = true;
        })
        .unwrap();
    assert_eq!(model.driver.values(1), saved.driver.values(1));
    assert_eq!(model.driver.values(2), saved.driver.values(2));

    let mut part = saved.snapshot();
    part.variables.remove(0);
    part.optimizers.clear();
    let mut model = Model::new("sgd", Given::new(), 1);
    let untouched = model.driver.values(1);
    model
        .restore_with(|request| {
            request.snapshot = part;
            request.partial = true;
        })
        .unwrap();
    assert_eq!(model.driver.values(1), untouched);
    assert_eq!(model.driver.values(2), saved.driver.values(2));
}

#[test]
fn a_client_may_choose_things_and_their_keys() {
    let mut saved = Model::new("adam", Given::new(), 1);
    saved.step(1);
    let entry = |handle, key: &str| KeyedHandle { handle, key: key.into() };
    let entries = vec![entry(2, "dense/bias"), entry(3, "opt")];
    let snapshot = saved.driver.session.snapshot(&entries).unwrap();
    // The slots of the variable that was left out are left out too.
    assert!(snapshot.optimizers[0].slots.iter().all(|slot| &*slot.variable == "dense/bias"));
    let mut model = Model::new("adam", Given::new(), 40);
    model.step(2);
    let untouched = model.driver.values(40);
    let entries = vec![entry(41, "dense/bias"), entry(42, "opt")];
    model
        .restore_with(|request| {
            request.snapshot = snapshot;
            request.entries = entries;
        })
        .unwrap();
    assert_eq!(model.driver.values(40), untouched);
    assert_eq!(model.driver.values(41), saved.driver.values(2));

    for wrong in [
        vec![entry(1, "x"), entry(2, "x")],
        vec![entry(1, "x"), entry(1, "y")],
        vec![entry(1, "")],
        vec![entry(1, "__metadata__")],
        vec![entry(3, "opt"), entry(1, "opt.momentum.x")],
        vec![entry(99, "x")],
    ] {
        assert!(saved.driver.session.snapshot(&wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_snapshot_costs_nothing_until_the_session_moves_on() {
    let mut model = Model::new("adam", Given::new(), 1);
    // So many that the programs of gradient and step are known.
    (1..=4).for_each(|step| model.step(step));
    let before = model.driver.ledger.used();
    let snapshot = model.snapshot();
    assert_eq!(model.driver.ledger.used(), before);
    model.step(5);
    assert!(model.driver.ledger.used() > before, "the old tensors are kept, and paid for");
    drop(snapshot);
    assert_eq!(model.driver.ledger.used(), before);
}
