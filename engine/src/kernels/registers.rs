//! Small values side by side, for those who compute the same again and again: no value needs memory of its own.
//!
//! Registers are lines of [`LINE`] elements, and a value is some lines that follow on each other. Behind its last element that
//! stands again, up to the end of the line. So loops over lines have no rest; what they compute behind the end is what they
//! compute at the end; and a line of a single element can be read as any other that all of it broadcasts to.

use std::ops::Range;

use super::{
    block::{Lane, MAX_INPUTS},
    cursor::Cursor,
    lanes::{Function, Function2, each_level},
    reduce,
};
use crate::{
    array::{Array, buffer},
    aval::Shape,
    dtype::DType,
    error::Error,
    op::Lanes,
};

/// Elements of a line: as many `float32` as the widest registers hold.
pub(crate) const LINE: usize = 16;

/// Lines of every dtype but the half ones.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    pub(super) f32: Vec<[f32; LINE]>,
    pub(super) f64: Vec<[f64; LINE]>,
    pub(super) i32: Vec<[i32; LINE]>,
    pub(super) i64: Vec<[i64; LINE]>,
    pub(super) bool: Vec<[bool; LINE]>,
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) dtype: DType,
    /// Its first line, among those of its dtype.
    pub(crate) first: usize,
    pub(crate) elements: usize,
}

/// What a loop over lines reads and writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operands {
    inputs: [Operand; MAX_INPUTS],
    /// How many inputs there are.
    count: usize,
    output: Home,
    lines: usize,
}

/// The lines of an input: one after the other, or the same again and again.
#[derive(Clone, Copy, Debug)]
struct Operand {
    first: usize,
    step: usize,
    dtype: DType,
}

/// Runs a body for whichever element type a dtype has.
macro_rules! by_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $T = f32;
                $body
            }
            DType::F64 => {
                type $T = f64;
                $body
            }
            DType::I32 => {
                type $T = i32;
                $body
            }
            DType::I64 => {
                type $T = i64;
                $body
            }
            DType::Bool => {
                type $T = bool;
                $body
            }
            DType::F16 | DType::BF16 => Err(Error::bug("registers of a half type")),
        }
    };
}

impl Home {
    /// How many lines it has.
    pub(crate) fn lines(self) -> usize {
        self.elements.div_ceil(LINE)
    }

    /// Where its elements are, among all of its dtype.
    fn range(self) -> Range<usize> {
        self.first * LINE..self.first * LINE + self.elements
    }

    /// The same with what stands behind them.
    fn filled(self) -> Range<usize> {
        self.first * LINE..(self.first + self.lines()) * LINE
    }
}

impl Operands {
    /// An input must have as many elements as the output, or one.
    pub(crate) fn new(inputs: &[Home], output: Home) -> Self {
        let mut operands = [Operand { first: 0, step: 0, dtype: DType::F32 }; MAX_INPUTS];
        for (operand, home) in operands.iter_mut().zip(inputs) {
            let &Home { dtype, first, elements } = home;
            *operand = Operand { first, step: usize::from(elements != 1), dtype };
        }
        Self { inputs: operands, count: inputs.len(), output, lines: output.lines() }
    }

    /// Where it is written.
    pub(crate) fn output(&self) -> Home {
        self.output
    }

    /// Writes elsewhere.
    pub(crate) fn write_to(&mut self, home: Home) {
        self.output = home;
    }

    /// Whether a value is read.
    pub(crate) fn reads(&self, home: Home) -> bool {
        let mut inputs = self.inputs[..self.count].iter();
        inputs.any(|input| (input.dtype, input.first) == (home.dtype, home.first))
    }

    /// The dtype of the output.
    pub(crate) fn dtype(&self) -> DType {
        self.output.dtype
    }

    /// Line `i` of an input.
    #[inline]
    fn line<T: Lane>(&self, registers: &Registers, input: usize, i: usize) -> [T; LINE] {
        let Operand { first, step, .. } = self.inputs[input];
        T::lines(registers)[first + i * step]
    }

    /// Line `i` of the output.
    #[inline]
    fn into<'a, T: Lane>(&self, registers: &'a mut Registers, i: usize) -> &'a mut [T; LINE] {
        &mut T::lines_mut(registers)[self.output.first + i]
    }
}

fn lost() -> Error {
    Error::bug("a value is not where it should be")
}

impl Registers {
    /// So many lines of a dtype.
    pub(crate) fn reserve(&mut self, dtype: DType, lines: usize) -> Result<(), Error> {
        by_dtype!(dtype, T => {
            let mut own = buffer::<[T; LINE]>(lines)?;
            own.resize(lines, [T::default(); LINE]);
            *T::lines_mut(self) = own;
            Ok(())
        })
    }

    /// The elements of a value.
    pub(crate) fn read(&self, home: Home) -> Result<Lanes<'_>, Error> {
        by_dtype!(home.dtype, T => {
            let all = T::lines(self).as_flattened();
            all.get(home.range()).map(T::lanes).ok_or_else(lost)
        })
    }

    /// A value as an array of its own.
    pub(crate) fn array(&self, home: Home, shape: &Shape) -> Result<Array, Error> {
        by_dtype!(home.dtype, T => {
            let all = T::lines(self).as_flattened();
            let elements = all.get(home.range()).ok_or_else(lost)?;
            let mut own = buffer(elements.len())?;
            own.extend_from_slice(elements);
            Array::new(shape, own)
        })
    }

    /// Overwrites a value.
    pub(crate) fn write(&mut self, home: Home, from: Lanes) -> Result<(), Error> {
        by_dtype!(home.dtype, T => {
            let all = T::lines_mut(self).as_flattened_mut();
            let from = T::read(&from).filter(|from| from.len() == home.elements);
            let (Some(from), Some(into)) = (from, all.get_mut(home.filled())) else {
                return Err(lost());
            };
            into[..from.len()].copy_from_slice(from);
            repeat_last(into, from.len());
            Ok(())
        })
    }

    /// Overwrites a scalar by a number, in its dtype.
    pub(crate) fn write_number(&mut self, home: Home, value: f64) -> Result<(), Error> {
        #[expect(clippy::cast_possible_truncation, reason = "as constants are made")]
        match home.dtype {
            DType::F32 => self.write(home, Lanes::F32(&[value as f32])),
            DType::F64 => self.write(home, Lanes::F64(&[value])),
            DType::I64 => self.write(home, Lanes::I64(&[value as i64])),
            DType::I32 | DType::Bool | DType::F16 | DType::BF16 => Err(lost()),
        }
    }

    /// Overwrites a value by another of as many elements.
    pub(crate) fn copy(&mut self, from: Home, into: Home) -> Result<(), Error> {
        by_dtype!(from.dtype, T => {
            let lines = T::lines_mut(self);
            let known = from.first.max(into.first) + from.lines() <= lines.len();
            if !known || (from.dtype, from.elements) != (into.dtype, into.elements) {
                return Err(lost());
            }
            lines.copy_within(from.first..from.first + from.lines(), into.first);
            Ok(())
        })
    }

    /// Overwrites a value by what a cursor visits of another.
    pub(crate) fn spread(
        &mut self,
        from: Home,
        into: Home,
        cursor: &mut Cursor,
    ) -> Result<(), Error> {
        by_dtype!(from.dtype, T => {
            let (from, filled) = self.two::<T>(from, into)?;
            cursor.seek(0);
            cursor.fill(from, &mut filled[..into.elements]);
            repeat_last(filled, into.elements);
            Ok(())
        })
    }

    /// Overwrites a value by sums, or means, of rows of so many elements.
    pub(crate) fn sum_rows(
        &mut self,
        from: Home,
        into: Home,
        count: usize,
        mean: bool,
    ) -> Result<(), Error> {
        if let (1, Some(row)) = (into.elements, self.f32.as_flattened().get(from.range())) {
            let sum = reduce::sum(row, mean);
            fill(&mut self.f32, into.first, sum);
            return Ok(());
        }
        let (x, filled) = self.two::<f32>(from, into)?;
        reduce::sum_rows(x, count, mean, &mut filled[..into.elements]);
        repeat_last(filled, into.elements);
        Ok(())
    }

    /// The elements of a value, and the lines of another.
    fn two<T: Lane>(&mut self, from: Home, into: Home) -> Result<(&[T], &mut [T]), Error> {
        let all = T::lines_mut(self).as_flattened_mut();
        let [from, into] =
            all.get_disjoint_mut([from.range(), into.filled()]).map_err(|_| lost())?;
        Ok((from, into))
    }
}

fn repeat_last<T: Copy>(filled: &mut [T], elements: usize) {
    let (value, behind) = filled.split_at_mut(elements);
    if let Some(&last) = value.last() {
        behind.fill(last);
    }
}

each_level! {
    /// Fills a line. Written at once, since what reads a line reads it at once.
    fn fill(lines: &mut [[f32; LINE]], line: usize, value: f32) {
        lines[line] = [value; LINE];
    }
}

each_level! {
    /// `f` of each element.
    pub(super) fn map<T: Lane, U: Lane>(
        registers: &mut Registers,
        operands: &Operands,
        f: impl Fn(T) -> U,
    ) {
        let line = |registers: &mut Registers, i| {
            let x = operands.line::<T>(registers, 0, i);
            let out = operands.into::<U>(registers, i);
            for (out, x) in out.iter_mut().zip(x) {
                *out = f(x);
            }
        };
        if operands.lines == 1 {
            return line(registers, 0);
        }
        (0..operands.lines).for_each(|i| line(registers, i));
    }
}

each_level! {
    /// `f` of each pair of elements.
    pub(super) fn zip<T: Lane, V: Lane, U: Lane>(
        registers: &mut Registers,
        operands: &Operands,
        f: impl Fn(T, V) -> U,
    ) {
        let line = |registers: &mut Registers, i| {
            let x = operands.line::<T>(registers, 0, i);
            let y = operands.line::<V>(registers, 1, i);
            let out = operands.into::<U>(registers, i);
            for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                *out = f(x, y);
            }
        };
        if operands.lines == 1 {
            return line(registers, 0);
        }
        (0..operands.lines).for_each(|i| line(registers, i));
    }
}

each_level! {
    /// `f` of each three elements.
    pub(super) fn zip3<T: Lane, V: Lane, W: Lane, U: Lane>(
        registers: &mut Registers,
        operands: &Operands,
        f: impl Fn(T, V, W) -> U,
    ) {
        for i in 0..operands.lines {
            let x = operands.line::<T>(registers, 0, i);
            let y = operands.line::<V>(registers, 1, i);
            let z = operands.line::<W>(registers, 2, i);
            let out = operands.into::<U>(registers, i);
            for (((out, x), y), z) in out.iter_mut().zip(x).zip(y).zip(z) {
                *out = f(x, y, z);
            }
        }
    }
}

each_level! {
    /// A function of each element.
    pub(super) fn map_by<T: Lane, F: Function<T>>(
        registers: &mut Registers,
        operands: &Operands,
    ) {
        for i in 0..operands.lines {
            let x = operands.line::<T>(registers, 0, i);
            let out = operands.into::<T>(registers, i);
            let mut holds = true;
            for (out, &x) in out.iter_mut().zip(&x) {
                *out = F::of(x);
                holds &= F::holds(x);
            }
            if !holds {
                for (out, &x) in out.iter_mut().zip(&x).filter(|(_, x)| !F::holds(**x)) {
                    *out = F::beyond(x);
                }
            }
        }
    }
}

each_level! {
    /// A function of each pair of elements.
    pub(super) fn zip_by<T: Lane, F: Function2<T>>(
        registers: &mut Registers,
        operands: &Operands,
    ) {
        for i in 0..operands.lines {
            let x = operands.line::<T>(registers, 0, i);
            let y = operands.line::<T>(registers, 1, i);
            let out = operands.into::<T>(registers, i);
            for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                *out = F::of(x, y);
            }
        }
    }
}

/// A loop over each line of two inputs.
pub(super) fn over<T: Lane>(
    registers: &mut Registers,
    operands: &Operands,
    run: impl Fn(&[T], &[T], &mut [T]),
) {
    for i in 0..operands.lines {
        let x = operands.line::<T>(registers, 0, i);
        let y = operands.line::<T>(registers, 1, i);
        run(&x, &y, operands.into::<T>(registers, i));
    }
}

/// `f` of each element, not of what stands behind the last: for an `f` that takes long.
pub(super) fn each<T: Lane, U: Lane>(
    registers: &mut Registers,
    operands: &Operands,
    f: impl Fn(T) -> U,
) {
    let mut left = operands.output.elements;
    for i in 0..operands.lines {
        let x = operands.line::<T>(registers, 0, i);
        let out = operands.into::<U>(registers, i);
        let count = left.min(LINE);
        for (out, &x) in out.iter_mut().zip(&x).take(count) {
            *out = f(x);
        }
        repeat_last(out, count);
        left -= count;
    }
}
