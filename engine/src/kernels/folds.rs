//! Folds of elements that come piece by piece, in an order that follows from the extents alone.
//!
//! Whether a reduction reads a tensor or a chain that computes it block by block, its elements come through here.

use std::marker::PhantomData;

use crate::{
    array::{buffer, filled},
    error::Error,
    kernels::{
        block::{Lane, mistyped},
        lanes::{self, PARTS, Step},
    },
    op::{Fold, Lanes, LanesMut},
};

/// How a fold combines elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folding<A, S, M, F> {
    /// What it begins with, which must be neutral.
    pub(crate) init: A,
    /// Takes in elements.
    pub(crate) step: S,
    /// Puts two partial results together.
    pub(crate) merge: M,
    /// Makes the result.
    pub(crate) finish: F,
}

/// A fold of each column of matrices that follow on each other. A matrix of one column is a row, which is folded as
/// [`lanes::fold`] says.
pub(crate) struct Folds<T, A, U, S, M, F> {
    folding: Folding<A, S, M, F>,
    rows: usize,
    /// Elements of a matrix, and how many of the current one were taken in.
    size: usize,
    taken: usize,
    /// What the current row comes to so far.
    parts: [A; PARTS],
    /// What the columns of the current matrix come to so far; none, if it is a row.
    columns: Vec<A>,
    /// What came of the matrices before.
    pub(super) results: Vec<U>,
    elements: PhantomData<fn(T)>,
}

impl<T, A, U, S, M, F> Folds<T, A, U, S, M, F>
where
    T: Copy,
    A: Copy,
    S: Step<A, T>,
    M: Fn(A, A) -> A,
    F: Fn(A) -> U,
{
    /// Folds of so many matrices, rows and columns, whose results are appended to these.
    pub(super) fn new(
        folding: Folding<A, S, M, F>,
        [_, rows, width]: [usize; 3],
        results: Vec<U>,
    ) -> Result<Self, Error> {
        if width > 1 {
            return Self::columns(folding, [rows, width], results);
        }
        Ok(Self::over(folding, [rows, 1], Vec::new(), results))
    }

    /// The same of matrices of so many rows and columns, even if these are parts of wider ones and have one column only.
    pub(super) fn columns(
        folding: Folding<A, S, M, F>,
        [rows, width]: [usize; 2],
        results: Vec<U>,
    ) -> Result<Self, Error> {
        let columns = filled(width, folding.init)?;
        Ok(Self::over(folding, [rows, width], columns, results))
    }

    fn over(
        folding: Folding<A, S, M, F>,
        [rows, width]: [usize; 2],
        columns: Vec<A>,
        results: Vec<U>,
    ) -> Self {
        let (size, parts) = (rows * width, [folding.init; PARTS]);
        Self { folding, rows, size, taken: 0, parts, columns, results, elements: PhantomData }
    }

    /// The same, ready to be given blocks.
    pub(crate) fn begin(
        folding: Folding<A, S, M, F>,
        extents: [usize; 3],
    ) -> Result<Box<dyn Fold>, Error>
    where
        Self: Fold + 'static,
    {
        let results = buffer(extents[0] * extents[2])?;
        Ok(Box::new(Self::new(folding, extents, results)?))
    }

    /// Takes in the elements that follow.
    pub(super) fn take(&mut self, x: &[T]) {
        let mut x = x;
        while !x.is_empty() {
            if self.columns.is_empty() && self.taken == 0 && x.len() >= self.rows {
                let (whole, rest) = x.split_at(x.len() - x.len() % self.rows);
                let Folding { init, step, merge, finish } = &self.folding;
                let results = &mut self.results;
                lanes::fold_rows(whole, self.rows, *init, step, merge, |acc| {
                    results.push(finish(acc));
                });
                x = rest;
                continue;
            }
            let (piece, rest) = x.split_at(x.len().min(self.size - self.taken));
            if self.columns.is_empty() {
                self.take_row(piece);
            } else {
                self.take_rows(piece);
            }
            self.taken += piece.len();
            if self.taken == self.size {
                self.end();
            }
            x = rest;
        }
    }

    /// Takes in a piece of a row.
    fn take_row(&mut self, piece: &[T]) {
        let (step, parts) = (&self.folding.step, &mut self.parts);
        if self.rows < PARTS {
            return lanes::fold_columns(piece, &mut parts[..1], |acc, x| step.one(acc, x));
        }
        let at = self.taken % PARTS;
        let (head, rest) = piece.split_at(piece.len().min((PARTS - at) % PARTS));
        for (part, &x) in parts[at..].iter_mut().zip(head) {
            *part = step.one(*part, x);
        }
        lanes::fold_into_parts(rest, parts, step);
    }

    /// Takes in a piece of a matrix: what is left of a row, whole rows, and the beginning of one.
    fn take_rows(&mut self, piece: &[T]) {
        let step = |acc, x| self.folding.step.one(acc, x);
        let (columns, width) = (&mut self.columns, self.size / self.rows);
        let at = self.taken % width;
        let (head, rest) = piece.split_at(piece.len().min((width - at) % width));
        if !head.is_empty() {
            lanes::fold_columns(head, &mut columns[at..at + head.len()], step);
        }
        let (whole, tail) = rest.split_at(rest.len() - rest.len() % width);
        lanes::fold_columns(whole, columns, step);
        if !tail.is_empty() {
            lanes::fold_columns(tail, &mut columns[..tail.len()], step);
        }
    }

    /// Makes the results of a matrix.
    fn end(&mut self) {
        let Folding { init, merge, finish, .. } = &self.folding;
        self.taken = 0;
        if self.columns.is_empty() {
            let short = self.rows < PARTS;
            let row = if short { self.parts[0] } else { lanes::halves(self.parts, merge) };
            self.parts = [*init; PARTS];
            return self.results.push(finish(row));
        }
        self.results.extend(self.columns.iter().map(|&column| finish(column)));
        self.columns.fill(*init);
    }
}

impl<T, A, U, S, M, F> Fold for Folds<T, A, U, S, M, F>
where
    T: Lane,
    A: Copy + Send,
    U: Lane,
    S: Step<A, T> + Send,
    M: Fn(A, A) -> A + Send,
    F: Fn(A) -> U + Send,
{
    fn take(&mut self, block: Lanes<'_>) -> Result<(), Error> {
        Self::take(self, T::read(&block).ok_or_else(mistyped)?);
        Ok(())
    }

    fn write(&self, out: &mut LanesMut<'_>) -> Result<(), Error> {
        let out = U::write(out).ok_or_else(mistyped)?;
        if self.taken > 0 || out.len() != self.results.len() {
            return Err(Error::bug("a fold has not seen all of its elements"));
        }
        out.copy_from_slice(&self.results);
        Ok(())
    }
}
