//! Which applications are computed together.
//!
//! Each application gets a height: how many borders lie on the longest way from it to the end, where a border is every
//! edge but those between elementwise ops of one shape, and from these to folds of that shape. Ops of one shape and one
//! height that feed each other are one chain. So an op is computed where it is read and not where it is written in the
//! program, which keeps fewer values alive; and no way leads out of a chain and back into it, since every way out goes down.
//!
//! A fold joins the chain that computes what it reads, if nobody else reads that, so that it need not be written; what is
//! written is read by a fold of its own at no greater cost. Where the fold would come later than the chain, it comes earlier:
//! what reads the fold lies lower still.

use hashbrown::HashMap;

use super::Writer;

/// What an application is to a chain.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// A link.
    Elementwise,
    /// Perhaps its end: a fold with these extents.
    Fold([usize; 3]),
    Other,
}

/// The applications of a program, and which of them are together.
pub(super) struct Groups<'a> {
    writer: &'a Writer<'a>,
    /// For each slot the application that fills it.
    producers: &'a [Option<usize>],
    roles: Vec<Role>,
    heights: Vec<usize>,
    sets: Sets,
}

impl<'a> Groups<'a> {
    pub(super) fn new(writer: &'a Writer<'a>, producers: &'a [Option<usize>]) -> Self {
        let role = |application| {
            if !writer.fusion {
                return Role::Other;
            }
            if writer.kernel(application).is_some() {
                return Role::Elementwise;
            }
            writer.fold(application).map_or(Role::Other, |(_, extents)| Role::Fold(extents))
        };
        let roles: Vec<Role> = writer.applications.iter().map(role).collect();
        let (heights, sets) = (vec![0; roles.len()], Sets((0..roles.len()).collect()));
        let mut groups = Self { writer, producers, roles, heights, sets };
        groups.measure();
        groups.join_links();
        groups.join_folds();
        groups
    }

    /// The groups, each a chain or one alone. Members are in the order of the program, and at most so many.
    pub(super) fn nodes(mut self, most: usize) -> Vec<Vec<usize>> {
        let mut by_set: HashMap<usize, usize> = HashMap::new();
        let mut nodes: Vec<Vec<usize>> = Vec::new();
        for i in 0..self.roles.len() {
            let node = *by_set.entry(self.sets.find(i)).or_insert(nodes.len());
            match nodes.get_mut(node) {
                Some(members) if members.len() < most => members.push(i),
                _ => {
                    // The rest of a long chain comes after its beginning.
                    by_set.insert(self.sets.find(i), nodes.len());
                    nodes.push(vec![i]);
                }
            }
        }
        nodes
    }

    fn is_elementwise(&self, i: usize) -> bool {
        self.roles[i] == Role::Elementwise
    }

    /// Whether an application and one that reads it can be in one chain.
    fn alike(&self, producer: usize, reader: usize) -> bool {
        let shape = |i: usize| self.writer.chained(&self.writer.applications[i]);
        self.is_elementwise(producer)
            && self.roles[reader] != Role::Other
            && shape(producer) == shape(reader)
    }

    /// Finds the heights.
    fn measure(&mut self) {
        for (i, application) in self.writer.applications.iter().enumerate().rev() {
            for producer in application.inputs.iter().filter_map(|&slot| self.producers[slot]) {
                let border = usize::from(!self.alike(producer, i));
                self.heights[producer] = self.heights[producer].max(self.heights[i] + border);
            }
        }
    }

    /// Joins elementwise ops.
    fn join_links(&mut self) {
        let writer = self.writer;
        let mut readers: HashMap<(usize, usize), usize> = HashMap::new();
        for (i, application) in writer.applications.iter().enumerate() {
            if !self.is_elementwise(i) {
                continue;
            }
            for &slot in &application.inputs {
                if let Some(producer) = self.producers[slot]
                    && self.alike(producer, i)
                    && self.heights[producer] == self.heights[i]
                {
                    self.sets.join(producer, i);
                }
                // Who reads the same elements at the same time reads them once.
                if writer.avals[slot].shape == *writer.chained(application) {
                    let first = *readers.entry((slot, self.heights[i])).or_insert(i);
                    self.sets.join(first, i);
                }
            }
        }
    }

    /// Joins folds to chains. All of one chain have the same extents.
    fn join_folds(&mut self) {
        let writer = self.writer;
        let mut readers: HashMap<usize, Vec<usize>> = HashMap::new();
        for (i, application) in writer.applications.iter().enumerate() {
            for &slot in &application.inputs {
                readers.entry(slot).or_default().push(i);
            }
        }
        let mut reduced: HashMap<usize, [usize; 3]> = HashMap::new();
        for (i, application) in writer.applications.iter().enumerate() {
            let Role::Fold(extents) = self.roles[i] else { continue };
            let slot = application.inputs[0];
            let Some(producer) = self.producers[slot].filter(|&producer| self.alike(producer, i))
            else {
                continue;
            };
            let chain = self.sets.find(producer);
            let mut stays = |&reader: &usize| match self.roles[reader] {
                Role::Elementwise => self.sets.find(reader) == chain,
                Role::Fold(other) => other == extents,
                Role::Other => false,
            };
            let unread = !writer.outside[slot] && readers[&slot].iter().all(&mut stays);
            if unread && *reduced.entry(chain).or_insert(extents) == extents {
                self.sets.join(chain, i);
                reduced.insert(self.sets.find(chain), extents);
            }
        }
    }
}

/// Sets that can be joined: each number leads to another of its set, the first of which leads to itself.
struct Sets(Vec<usize>);

impl Sets {
    fn find(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}
