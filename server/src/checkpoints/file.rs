//! The bytes of a file: a length, a header in JSON, and the elements of all tensors.
//!
//! The format is that of safetensors, whose crate gives the types and checks that tensors cover the file without gaps. Here are
//! the things that it leaves to its users: a bound on the header, a checksum over everything, and reading and writing without
//! holding the file in memory a second time.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use gradtape_engine::{
    array::Tensor,
    aval::{Aval, Shape},
    dtype::DType,
    ledger::Ledger,
};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3Default;

use crate::{
    session::{error::ProtocolError, uploads::Staging},
    wire::encode,
};

/// Bytes before the header, which hold its length.
pub const PREFIX: usize = 8;

/// Longest header, in bytes. It bounds what a file can make us parse, to about 20,000 tensors, and a description of the file
/// still fits in a message.
pub const MAX_HEADER: usize = 3 << 20;

/// What the checksum is called among the metadata.
const CHECKSUM: &str = "gradtape.checksum";

/// What a file says of itself.
#[derive(Clone, Debug)]
pub struct Header {
    /// Bytes of the prefix and the header.
    pub length: usize,
    /// The tensors, in the order of their elements.
    pub tensors: Vec<(String, Aval)>,
    /// Remarks of whoever wrote the file.
    pub metadata: BTreeMap<String, String>,
    /// The checksum that the file carries.
    pub checksum: Option<u128>,
    infos: BTreeMap<String, TensorInfo>,
}

/// A file that is ready to be written.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Its bytes, in parts. Large ones share the memory of the tensors.
    pub parts: Vec<Bytes>,
    /// Number of tensors.
    pub tensors: usize,
    /// The checksum that it carries.
    pub checksum: u128,
}

/// A header as it is written; without the checksum it is what the checksum covers first.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(rename = "__metadata__")]
    metadata: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: &'a BTreeMap<String, TensorInfo>,
}

/// A file whose elements are on their way.
#[derive(Debug)]
pub struct Reader<'h> {
    header: &'h Header,
    ledger: Arc<Ledger>,
    hash: Checksum,
    tensors: Vec<(String, Tensor)>,
    /// The tensor whose elements come next.
    current: Option<Staging>,
}

/// Verifies a file while its bytes pass by on their way to somebody else.
#[derive(Debug)]
pub struct Passing {
    size: u64,
    seen: u64,
    /// Bytes of the header so far; empty once it was read.
    head: Vec<u8>,
    header: Option<(Header, Checksum)>,
}

/// A checksum over a header and the elements behind it.
pub struct Checksum(Xxh3Default);

fn invalid(why: impl Into<String>) -> ProtocolError {
    ProtocolError::InvalidCheckpoint { why: why.into() }
}

// === impl Header ===

impl Header {
    /// The length of prefix and header, from the prefix.
    pub fn length(prefix: [u8; PREFIX]) -> Result<usize, ProtocolError> {
        let length = u64::from_le_bytes(prefix);
        usize::try_from(length).ok().filter(|&length| length <= MAX_HEADER).map_or_else(
            || Err(invalid(format!("a header of {length} bytes; at most {MAX_HEADER}"))),
            |length| Ok(PREFIX + length),
        )
    }

    /// Reads prefix and header of a file of `size` bytes.
    pub fn read(bytes: &[u8], size: u64) -> Result<Self, ProtocolError> {
        let (prefix, json) =
            bytes.split_first_chunk().ok_or_else(|| invalid("it ends before its header"))?;
        let length = Self::length(*prefix)?;
        let json = json.get(..length - PREFIX).ok_or_else(|| invalid("it ends in its header"))?;
        let parsed: Metadata =
            serde_json::from_slice(json).map_err(|error| invalid(format!("header: {error}")))?;
        let expected = (length as u64).checked_add(parsed.data_len() as u64);
        if expected != Some(size) {
            return Err(invalid(format!(
                "it has {size} bytes, and its header tells of {} and {length} before them",
                parsed.data_len()
            )));
        }
        let mut metadata: BTreeMap<_, _> =
            parsed.metadata().clone().unwrap_or_default().into_iter().collect();
        let checksum = metadata.remove(CHECKSUM).map(|text| parse_checksum(&text)).transpose()?;
        let infos: BTreeMap<_, _> =
            parsed.tensors().into_iter().map(|(key, info)| (key, info.clone())).collect();
        let mut order: Vec<_> = infos.iter().collect();
        // Tensors without elements may share an offset; then names decide.
        order.sort_by_key(|(key, info)| (info.data_offsets, *key));
        let tensors = order
            .into_iter()
            .map(|(key, info)| Ok((key.clone(), aval(key, info)?)))
            .collect::<Result<_, ProtocolError>>()?;
        Ok(Self { length, tensors, metadata, checksum, infos })
    }

    /// Begins the checksum of the file.
    pub fn hash(&self) -> Result<Checksum, ProtocolError> {
        Checksum::begin(&self.metadata, &self.infos)
    }
}

// === impl Encoded ===

impl Encoded {
    /// Writes tensors and metadata. Reads all elements, for their checksum.
    pub fn new(
        tensors: Vec<(String, Tensor)>,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self, ProtocolError> {
        let mut tensors: Vec<_> = tensors
            .into_iter()
            .map(|(key, tensor)| (safetensors_dtype(tensor.aval().dtype), key, tensor))
            .collect();
        // Wide elements first, so that all are aligned for whoever maps the file into memory.
        tensors.sort_by(|(a, x, _), (b, y, _)| b.cmp(a).then_with(|| x.cmp(y)));
        let mut infos = BTreeMap::new();
        let (mut parts, mut start) = (Vec::with_capacity(tensors.len() + 1), 0);
        for (dtype, key, tensor) in tensors {
            let shape = tensor.aval().shape.to_vec();
            let elements = encode::elements(tensor);
            let data_offsets = (start, start + elements.len());
            start = data_offsets.1;
            if let Some((_, key)) = infos
                .insert(key.clone(), TensorInfo { dtype, shape, data_offsets })
                .map(|twice| (twice, key))
            {
                return Err(invalid(format!("two tensors have the key {key:?}")));
            }
            parts.push(elements);
        }
        Self::finish(metadata, &infos, parts)
    }

    /// Takes a file as it came, after comparing its checksum or, if it has none, with one.
    pub fn adopt(header: &Header, file: &Bytes) -> Result<Self, ProtocolError> {
        let data = file.slice(header.length..);
        let Some(expected) = header.checksum else {
            return Self::finish(header.metadata.clone(), &header.infos, vec![data]);
        };
        let mut hash = header.hash()?;
        hash.update(&data);
        let checksum = hash.finish();
        if checksum != expected {
            return Err(invalid(format!(
                "its {CHECKSUM} does not fit; remove it if you changed it"
            )));
        }
        Ok(Self { parts: vec![file.clone()], tensors: header.tensors.len(), checksum })
    }

    fn finish(
        mut metadata: BTreeMap<String, String>,
        infos: &BTreeMap<String, TensorInfo>,
        mut parts: Vec<Bytes>,
    ) -> Result<Self, ProtocolError> {
        let mut hash = Checksum::begin(&metadata, infos)?;
        for part in &parts {
            hash.update(part);
        }
        let checksum = hash.finish();
        metadata.insert(CHECKSUM.to_owned(), format_checksum(checksum));
        let mut json = header_json(&metadata, infos)?;
        json.resize(json.len().next_multiple_of(PREFIX), b' ');
        if json.len() > MAX_HEADER {
            let why = format!("its header would have {} bytes; at most {MAX_HEADER}", json.len());
            return Err(invalid(why));
        }
        let head = [&(json.len() as u64).to_le_bytes(), &json[..]].concat();
        parts.insert(0, head.into());
        Ok(Self { parts, tensors: infos.len(), checksum })
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

// === impl Reader ===

impl<'h> Reader<'h> {
    /// Begins to read what follows a header. `ledger` pays for the tensors.
    pub fn new(header: &'h Header, ledger: &Arc<Ledger>) -> Result<Self, ProtocolError> {
        let ledger = Arc::clone(ledger);
        let (hash, tensors) = (header.hash()?, Vec::with_capacity(header.tensors.len()));
        let mut reader = Self { header, ledger, hash, tensors, current: None };
        reader.advance()?;
        Ok(reader)
    }

    /// Takes the next bytes of the file.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), ProtocolError> {
        self.hash.update(bytes);
        while !bytes.is_empty() {
            let current =
                self.current.as_mut().ok_or_else(|| invalid("it goes on after its end"))?;
            let room = usize::try_from(current.missing()).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            current.append(now)?;
            bytes = later;
            self.advance()?;
        }
        Ok(())
    }

    /// The tensors, if the file was complete and as it was written.
    pub fn finish(self) -> Result<Vec<(String, Tensor)>, ProtocolError> {
        if self.current.is_some() {
            return Err(invalid("it ends before its elements do"));
        }
        verify(self.header, &self.hash)?;
        Ok(self.tensors)
    }

    /// Takes tensors that are complete, and makes room for the first that is not.
    fn advance(&mut self) -> Result<(), ProtocolError> {
        loop {
            if let Some(staging) = self.current.take_if(|staging| staging.is_complete()) {
                let (key, _) = &self.header.tensors[self.tensors.len()];
                self.tensors.push((key.clone(), staging.finish()?));
            }
            if self.current.is_some() {
                return Ok(());
            }
            let Some((_, aval)) = self.header.tensors.get(self.tensors.len()) else {
                return Ok(());
            };
            self.current = Some(Staging::new(&self.ledger, aval.clone())?);
        }
    }
}

// === impl Passing ===

impl Passing {
    /// Nothing of a file of `size` bytes has passed.
    pub fn new(size: u64) -> Self {
        Self { size, seen: 0, head: Vec::new(), header: None }
    }

    /// Takes note of the next bytes. The error comes at the latest with the last.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        if let Some((_, hash)) = &mut self.header {
            hash.update(bytes);
        } else {
            self.head.extend_from_slice(bytes);
            let length =
                self.head.first_chunk().map(|prefix| Header::length(*prefix)).transpose()?;
            if length.is_some_and(|length| self.head.len() >= length) || self.seen >= self.size {
                let head = std::mem::take(&mut self.head);
                let header = Header::read(&head, self.size)?;
                let mut hash = header.hash()?;
                hash.update(&head[header.length..]);
                self.header = Some((header, hash));
            }
        }
        match self.header.take_if(|_| self.seen >= self.size) {
            Some((header, hash)) => verify(&header, &hash),
            None => Ok(()),
        }
    }
}

// === impl Checksum ===

impl Checksum {
    fn begin(
        metadata: &BTreeMap<String, String>,
        infos: &BTreeMap<String, TensorInfo>,
    ) -> Result<Self, ProtocolError> {
        let mut hash = Xxh3Default::new();
        hash.update(&header_json(metadata, infos)?);
        Ok(Self(hash))
    }

    /// Takes the next elements.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u128 {
        self.0.digest128()
    }
}

impl std::fmt::Debug for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checksum(..)")
    }
}

/// Whether a file that was read to its end is as it was written.
pub fn verify(header: &Header, hash: &Checksum) -> Result<(), ProtocolError> {
    let found = hash.finish();
    match header.checksum {
        Some(expected) if expected == found => Ok(()),
        Some(_) => Err(invalid("its checksum is another")),
        None => {
            Err(invalid("it has no checksum: send files of other programs by UploadCheckpoint"))
        }
    }
}

/// The tensors of a file whose elements are all there.
pub fn read_all(
    header: &Header,
    elements: &[u8],
    ledger: &Arc<Ledger>,
) -> Result<Vec<(String, Tensor)>, ProtocolError> {
    let mut hash = header.hash()?;
    hash.update(elements);
    verify(header, &hash)?;
    let mut rest = elements;
    let tensor = |(key, aval): &(String, Aval)| {
        let bytes = usize::try_from(aval.bytes()).ok();
        let (now, later) = bytes
            .and_then(|bytes| rest.split_at_checked(bytes))
            .ok_or_else(|| invalid("it ends before its elements do"))?;
        rest = later;
        Ok((key.clone(), Tensor::from_bytes(ledger, aval, now)?))
    };
    header.tensors.iter().map(tensor).collect()
}

/// The checksum as text.
pub fn format_checksum(checksum: u128) -> String {
    format!("{checksum:032x}")
}

fn parse_checksum(text: &str) -> Result<u128, ProtocolError> {
    let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let checksum = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    checksum.ok_or_else(|| invalid(format!("{CHECKSUM} must be 32 hexadecimal digits")))
}

fn header_json(
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, TensorInfo>,
) -> Result<Vec<u8>, ProtocolError> {
    serde_json::to_vec(&Json { metadata, tensors })
        .map_err(|error| invalid(format!("header: {error}")))
}

fn aval(key: &str, info: &TensorInfo) -> Result<Aval, ProtocolError> {
    let dtype = DType::ALL.iter().copied().find(|&ours| safetensors_dtype(ours) == info.dtype);
    let dtype = dtype.ok_or_else(|| {
        let names: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        invalid(format!("tensor {key:?} has dtype {}; known are {}", info.dtype, names.join(", ")))
    })?;
    let extents: Option<Vec<i64>> = info.shape.iter().map(|&n| i64::try_from(n).ok()).collect();
    let extents = extents.ok_or_else(|| invalid(format!("tensor {key:?} is too large")))?;
    let shape =
        Shape::checked(&extents).map_err(|error| invalid(format!("tensor {key:?}: {error}")))?;
    Ok(Aval { dtype, shape })
}

fn safetensors_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::Bool => Dtype::BOOL,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
    }
}
