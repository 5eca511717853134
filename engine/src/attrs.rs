//! Attributes: the static, non-tensor arguments of ops and optimizers.
//!
//! A declaration by [`attrs!`](crate::attrs!) gives the struct that rules and kernels read, and the specification that
//! requests are checked against and that the catalogue shows. After the check attributes are positional, so that
//! reading them costs no lookup.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{control::Bodies, dtype::DType, error::Error};

/// A list of integers, as attributes carry axes and extents.
pub type Ints = SmallVec<[i64; 4]>;

/// A list of real numbers, as schedules carry rates.
pub type Doubles = SmallVec<[f64; 4]>;

/// Longest list of numbers that an attribute may hold.
pub const MAX_INTS: usize = 64;

/// Longest text that an attribute may hold, in bytes.
pub const MAX_TEXT: usize = 256;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// An optional attribute that was not given.
    Unset,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A real number.
    Double(f64),
    /// A text.
    Text(Box<str>),
    /// An element type.
    DType(DType),
    /// A list of integers.
    Ints(Ints),
    /// A list of real numbers.
    Doubles(Doubles),
    /// What control flow runs. It cannot be given on the wire.
    Bodies(Bodies),
}

impl Attr {
    /// Whether it holds no number that is infinite or not a number.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Double(value) => value.is_finite(),
            Self::Doubles(values) => values.iter().all(|value| value.is_finite()),
            Self::Unset
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Text(_)
            | Self::DType(_)
            | Self::Bodies(_)
            | Self::Ints(_) => true,
        }
    }
}

/// The type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrType {
    /// [`Attr::Bool`].
    Bool,
    /// [`Attr::Int`].
    Int,
    /// [`Attr::Double`]; integers are converted.
    Double,
    /// [`Attr::Text`].
    Text,
    /// [`Attr::DType`].
    DType,
    /// [`Attr::Ints`].
    Ints,
    /// [`Attr::Doubles`]; integers are converted.
    Doubles,
}

/// What an attribute is if it is not given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// It must be given.
    Required,
    /// Nothing.
    Unset,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A real number.
    Double(f64),
    /// A text.
    Text(&'static str),
    /// An element type.
    DType(DType),
    /// A list of integers.
    Ints(&'static [i64]),
}

impl Fallback {
    /// The value, unless the attribute is required.
    pub fn value(self) -> Option<Attr> {
        Some(match self {
            Self::Required => return None,
            Self::Unset => Attr::Unset,
            Self::Bool(value) => Attr::Bool(value),
            Self::Int(value) => Attr::Int(value),
            Self::Double(value) => Attr::Double(value),
            Self::Text(value) => Attr::Text(value.into()),
            Self::DType(value) => Attr::DType(value),
            Self::Ints(value) => Attr::Ints(value.into()),
        })
    }
}

/// What the catalogue says of an attribute, and what a request is checked against.
#[derive(Clone, Copy, Debug)]
pub struct AttrSpec {
    /// Name on the wire.
    pub name: &'static str,
    /// Type.
    pub ty: AttrType,
    /// Default.
    pub fallback: Fallback,
    /// What it means, for the catalogue.
    pub doc: &'static str,
}

/// Checked attributes, in the order of their specification. Clones share them: whatever is recorded or written into a program
/// has a clone. Most ops have none, which is nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attrs(Option<Arc<[Attr]>>);

impl Attrs {
    /// Checks named attributes against a specification and fills in defaults.
    pub fn check(specs: &[AttrSpec], given: Vec<(String, Attr)>) -> Result<Self, Error> {
        if given.is_empty() && specs.is_empty() {
            return Ok(Self::default());
        }
        let mut values: SmallVec<[Option<Attr>; 4]> = specs.iter().map(|_| None).collect();
        for (name, value) in given {
            let Some(i) = specs.iter().position(|spec| spec.name == name) else {
                let known = specs.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
                return Err(Error::attribute(&name, format!("is unknown; there are: {known}")));
            };
            if values[i].is_some() {
                return Err(Error::attribute(&name, "is given twice"));
            }
            values[i] = Some(conform(&specs[i], value)?);
        }
        specs
            .iter()
            .zip(values)
            .map(|(spec, value)| {
                value
                    .or_else(|| spec.fallback.value())
                    .ok_or_else(|| Error::attribute(spec.name, "must be given"))
            })
            .collect::<Result<_, _>>()
    }

    /// Replaces the given attributes and keeps the others.
    pub fn update(&mut self, specs: &[AttrSpec], given: Vec<(String, Attr)>) -> Result<(), Error> {
        let mut updated = self.values().to_vec();
        for (name, value) in given {
            let Some(i) = specs.iter().position(|spec| spec.name == name) else {
                return Err(Error::attribute(&name, "is unknown"));
            };
            updated[i] = conform(&specs[i], value)?;
        }
        *self = Self::from_values(updated);
        Ok(())
    }

    /// Attributes that are known to match their specification.
    pub fn from_values(values: impl IntoIterator<Item = Attr>) -> Self {
        let values: Arc<[Attr]> = values.into_iter().collect();
        Self((!values.is_empty()).then_some(values))
    }

    /// How many ops they hold, if they hold bodies.
    pub(crate) fn weight(&self) -> usize {
        let bodies =
            |attr: &Attr| if let Attr::Bodies(bodies) = attr { bodies.weight() } else { 0 };
        self.values().iter().map(bodies).fold(0, usize::saturating_add)
    }

    /// Whether they are the same to the last bit: 0 is not -0.
    pub fn same_bits(&self, other: &Self) -> bool {
        self.same_bits_from(0, other)
    }

    /// The same for those from the `first` one on.
    pub(crate) fn same_bits_from(&self, first: usize, other: &Self) -> bool {
        let same = |(one, other): (&Attr, &Attr)| match (one, other) {
            (Attr::Double(one), Attr::Double(other)) => one.to_bits() == other.to_bits(),
            (Attr::Doubles(one), Attr::Doubles(other)) => {
                one.iter().map(|x| x.to_bits()).eq(other.iter().map(|x| x.to_bits()))
            }
            (one, other) => one == other,
        };
        let (own, others) = (self.values(), other.values());
        std::ptr::eq(own, others)
            || own.len() == others.len() && own.iter().zip(others).skip(first).all(same)
    }

    /// The values, in the order of the specification.
    pub fn values(&self) -> &[Attr] {
        self.0.as_deref().unwrap_or_default()
    }

    /// These followed by others, as joined specifications have them.
    #[must_use]
    pub fn and(&self, others: &Self) -> Self {
        self.values().iter().chain(others.values()).cloned().collect()
    }

    /// Those of the first specification of two that were joined.
    #[must_use]
    pub fn until(&self, specs: &[AttrSpec]) -> Self {
        Self::from_values(self.values().iter().take(specs.len()).cloned())
    }

    /// Those of the second specification of two that were joined.
    #[must_use]
    pub fn after(&self, specs: &[AttrSpec]) -> Self {
        Self::from_values(self.values().iter().skip(specs.len()).cloned())
    }
}

impl FromIterator<Attr> for Attrs {
    fn from_iter<I: IntoIterator<Item = Attr>>(values: I) -> Self {
        Self::from_values(values)
    }
}

/// One specification after the other: the attributes of an op that has all of another's and some more. `N` is how many there
/// are together.
pub(crate) const fn joined<const N: usize>(
    first: &[AttrSpec],
    second: &[AttrSpec],
) -> [AttrSpec; N] {
    assert!(first.len() + second.len() == N, "another number of attributes");
    let mut all = [first[0]; N];
    let mut i = 0;
    while i < N {
        all[i] = if i < first.len() { first[i] } else { second[i - first.len()] };
        i += 1;
    }
    all
}

fn conform(spec: &AttrSpec, value: Attr) -> Result<Attr, Error> {
    let value = match (spec.ty, value) {
        #[expect(clippy::cast_precision_loss, reason = "a double was asked for")]
        (AttrType::Double, Attr::Int(value)) => Attr::Double(value as f64),
        #[expect(clippy::cast_precision_loss, reason = "doubles were asked for")]
        (AttrType::Doubles, Attr::Ints(values)) => {
            Attr::Doubles(values.into_iter().map(|value| value as f64).collect())
        }
        (_, value) => value,
    };
    let fits = match (&value, spec.ty) {
        (Attr::Bool(_), AttrType::Bool)
        | (Attr::Int(_), AttrType::Int)
        | (Attr::Double(_), AttrType::Double)
        | (Attr::DType(_), AttrType::DType) => true,
        (Attr::Text(text), AttrType::Text) => text.len() <= MAX_TEXT,
        (Attr::Ints(ints), AttrType::Ints) => ints.len() <= MAX_INTS,
        (Attr::Doubles(doubles), AttrType::Doubles) => doubles.len() <= MAX_INTS,
        _ => false,
    };
    if fits {
        return Ok(value);
    }
    Err(Error::attribute(
        spec.name,
        format!(
            "must be of type {:?} (texts up to {MAX_TEXT} bytes, lists up to {MAX_INTS} entries)",
            spec.ty
        ),
    ))
}

/// A Rust type that an attribute can be read as.
pub trait AttrValue: Sized {
    /// The attribute's type on the wire.
    const TYPE: AttrType;
    /// Reads a checked attribute.
    fn read(attr: Option<&Attr>) -> Self;
    /// Writes it back.
    fn write(self) -> Attr;
}

macro_rules! attr_value {
    ($($ty:ty => $variant:ident, $ref:ident => $read:expr;)*) => {$(
        impl AttrValue for $ty {
            const TYPE: AttrType = AttrType::$variant;

            fn read(attr: Option<&Attr>) -> Self {
                match attr {
                    Some(Attr::$variant($ref)) => $read,
                    // Unreachable after `Attrs::check`; the type's own default keeps it total.
                    Some(_) | None => Self::default(),
                }
            }

            fn write(self) -> Attr {
                Attr::$variant(self.into())
            }
        }
    )*};
}

attr_value! {
    bool => Bool, value => *value;
    i64 => Int, value => *value;
    f64 => Double, value => *value;
    String => Text, value => value.to_string();
    Ints => Ints, value => value.clone();
    Doubles => Doubles, value => value.clone();
}

impl AttrValue for DType {
    const TYPE: AttrType = AttrType::DType;

    fn read(attr: Option<&Attr>) -> Self {
        if let Some(&Attr::DType(dtype)) = attr { dtype } else { Self::F32 }
    }

    fn write(self) -> Attr {
        Attr::DType(self)
    }
}

impl AttrValue for Option<f64> {
    const TYPE: AttrType = AttrType::Double;

    fn read(attr: Option<&Attr>) -> Self {
        if let Some(&Attr::Double(value)) = attr { Some(value) } else { None }
    }

    fn write(self) -> Attr {
        self.map_or(Attr::Unset, Attr::Double)
    }
}

/// Declares the attributes of an op once: the struct, its specification, and both conversions.
#[macro_export]
macro_rules! attrs {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident : $ty:ty = $fallback:ident $(($default:expr))?),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $ty),* }

        impl $name {
            /// What the catalogue says, in the order of the values.
            pub const SPECS: &'static [$crate::attrs::AttrSpec] = &[$($crate::attrs::AttrSpec {
                name: stringify!($field),
                ty: <$ty as $crate::attrs::AttrValue>::TYPE,
                fallback: $crate::attrs::Fallback::$fallback $(($default))?,
                doc: concat!($($doc),+),
            }),*];

            /// Reads checked attributes.
            pub fn read(attrs: &$crate::attrs::Attrs) -> Self {
                let mut values = attrs.values().iter();
                Self { $($field: $crate::attrs::AttrValue::read(values.next())),* }
            }

            /// Writes them back.
            pub fn write(self) -> $crate::attrs::Attrs {
                $crate::attrs::Attrs::from_values([$($crate::attrs::AttrValue::write(self.$field)),*])
            }
        }
    };
}
