//! Taking a session over whose server is lost: its newest copy is fetched, verified, and claimed.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use gradtape_engine::ledger::{Charge, Ledger};

use super::{Failure, Newest, Portable, manifest::Manifest};
use crate::{
    durable::{
        entry::Opened,
        record::{Kind, Reader},
        store::Store,
    },
    session::registry::SessionId,
};

/// Parts of a copy that are fetched at a time.
const FETCHES: usize = 4;

/// The newest copy of a session.
#[derive(Debug)]
pub(crate) struct Found(Box<Manifest>);

/// A copy that was fetched, with the memory that it takes.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The log.
    pub(crate) parts: Vec<Bytes>,
    _charge: Charge,
}

impl Found {
    /// Whose session it is, and who may go on with it.
    pub(crate) fn opened(&self) -> &Opened {
        &self.0.opened
    }

    /// Its last command.
    pub(crate) fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// The epoch of the store that it was in last.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.epoch
    }
}

impl Portable {
    /// The newest copy of a session, unless there is none or the session has ended.
    pub(crate) async fn find(&self, id: SessionId) -> Result<Option<Found>, Failure> {
        match self.newest(id).await? {
            Newest::None => Ok(None),
            Newest::Whole(manifest) => Ok(Some(Found(manifest)).filter(|found| !found.0.ended)),
            Newest::Torn { .. } => Err(Failure::Damaged("the newest manifest is damaged")),
        }
    }

    /// Fetches a copy into memory, which is reserved before.
    pub(crate) async fn fetch(
        &self,
        id: SessionId,
        found: &Found,
        ledger: &Arc<Ledger>,
    ) -> Result<Fetched, Failure> {
        let manifest = &found.0;
        let length = manifest.length().unwrap_or(u64::MAX);
        let charge = ledger.reserve(length).map_err(|_| Failure::Memory)?;
        let fetches: Vec<_> = manifest.parts.iter().map(|part| self.get_part(id, part)).collect();
        let parts: Result<Vec<Bytes>, _> =
            stream::iter(fetches).buffered(FETCHES).try_collect().await;
        if let Err(Failure::Damaged(_)) = parts
            && self.generations(id).await?.last() != Some(&manifest.generation)
        {
            // Its server lives, and has removed what newer copies do not need.
            return Err(Failure::Fenced);
        }
        let parts = parts?;
        let (opened, read) = (manifest.opened.clone(), parts.clone());
        let verified = tokio::task::spawn_blocking(move || verify(read, length, &opened)).await;
        verified.map_err(|_| Failure::Ended)??;
        Ok(Fetched { parts, _charge: charge })
    }

    /// Claims a session for the server that has this store. From here on no other server writes copies of it.
    pub(crate) async fn claim(
        &self,
        id: SessionId,
        found: Found,
        store: &dyn Store,
    ) -> Result<(), Failure> {
        let before = found.0.generation;
        let manifest = Manifest {
            generation: before.saturating_add(1),
            owner: store.identity().to_vec(),
            run: self.run.to_vec(),
            epoch: store.epoch(),
            ..*found.0
        };
        self.create(id, &manifest, Some(before)).await
    }
}

/// Whether these are the records of a log, from the first to the last, of the session that the manifest names. Blocks.
fn verify(parts: Vec<Bytes>, length: u64, opened: &Opened) -> Result<(), Failure> {
    let mut reader = Reader::new(Box::new(Chain(parts.into_iter(), Bytes::new())), length);
    let damaged = |_| Failure::Damaged("the log in the copy is damaged");
    let first = reader.read().map_err(damaged)?;
    let fits = first.filter(|record| record.kind == Kind::Opened).is_some_and(|record| {
        let first = <Opened as prost::Message>::decode(&*record.content);
        first.is_ok_and(|first| Opened { snapshot: opened.snapshot, ..first } == *opened)
    });
    if !fits {
        return Err(Failure::Damaged("the copy is of another session than its manifest says"));
    }
    while reader.read().map_err(damaged)?.is_some() {}
    Ok(())
}

/// Reads one part after the other.
struct Chain(std::vec::IntoIter<Bytes>, Bytes);

impl io::Read for Chain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.1.is_empty() {
            let Some(next) = self.0.next() else { return Ok(0) };
            self.1 = next;
        }
        let size = into.len().min(self.1.len());
        into[..size].copy_from_slice(&self.1.split_to(size));
        Ok(size)
    }
}
