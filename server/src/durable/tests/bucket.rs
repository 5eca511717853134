//! A bucket that can be down, tear, hang, overwrite, and show what it held before.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use futures::{StreamExt, TryStreamExt, future, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, memory::InMemory, path::Path,
};
use tokio::sync::watch;

/// How a bucket, or the way to it, is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is not.
    #[default]
    None,
    /// It refuses everything.
    Down,
    /// It keeps half of each object whose name ends so, and says that it has all.
    Tears(&'static str),
    /// What is written hangs until the flaw is gone.
    Hangs,
    /// It overwrites what it shall only create.
    Overwrites,
    /// It does not list the newest manifest.
    Forgets,
}

#[derive(Debug)]
pub(super) struct Bucket {
    objects: Arc<InMemory>,
    flaw: watch::Sender<Flaw>,
    /// Where something was written, in this order.
    pub(super) written: Mutex<Vec<Path>>,
}

impl Bucket {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            objects: Arc::default(),
            flaw: watch::channel(Flaw::None).0,
            written: Mutex::default(),
        })
    }

    pub(super) fn be(&self, flaw: Flaw) {
        self.flaw.send_replace(flaw);
    }

    fn flaw(&self) -> Flaw {
        *self.flaw.borrow()
    }

    fn check(&self) -> Result<()> {
        let down = || Error::Generic { store: "bucket", source: "it is down".into() };
        if self.flaw() == Flaw::Down { Err(down()) } else { Ok(()) }
    }

    /// The objects whose names end so, sorted.
    pub(super) async fn named(&self, suffix: &str) -> Vec<Path> {
        let all = self.objects.list(None).map_ok(|meta| meta.location);
        let mut all: Vec<_> = all.try_collect().await.unwrap();
        all.retain(|path| path.as_ref().ends_with(suffix));
        all.sort();
        all
    }

    /// Changes one byte of an object.
    pub(super) async fn damage(&self, path: &Path) {
        let mut bytes = self.objects.get(path).await.unwrap().bytes().await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.objects.put(path, bytes.into()).await.unwrap();
    }

    pub(super) async fn put_instead(&self, path: &Path, bytes: Vec<u8>) {
        self.objects.put(path, bytes.into()).await.unwrap();
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bucket")
    }
}

#[tonic::async_trait]
impl ObjectStore for Bucket {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        self.check()?;
        let works = self.flaw.subscribe().wait_for(|flaw| *flaw != Flaw::Hangs).await.is_ok();
        assert!(works, "the bucket outlives who waits for it");
        self.written.lock().unwrap().push(path.clone());
        let payload = match self.flaw() {
            Flaw::Tears(suffix) if path.as_ref().ends_with(suffix) => {
                let bytes = payload.iter().flatten().copied().collect::<Vec<u8>>();
                bytes[..bytes.len() / 2].to_vec().into()
            }
            Flaw::Overwrites => {
                options.mode = PutMode::Overwrite;
                payload
            }
            Flaw::None | Flaw::Down | Flaw::Tears(_) | Flaw::Hangs | Flaw::Forgets => payload,
        };
        self.objects.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.check()?;
        self.objects.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.check() {
            return futures::stream::once(future::ready(Err(error))).boxed();
        }
        let forgets = self.flaw() == Flaw::Forgets;
        let all = self.objects.list(prefix).collect::<Vec<_>>();
        let all = async move {
            let mut all = all.await;
            let manifests = all.iter().flatten().map(|meta| meta.location.clone());
            let newest = manifests.filter(|path| path.extension() == Some("manifest")).max();
            if forgets {
                all.retain(|meta| meta.as_ref().ok().map(|meta| &meta.location) != newest.as_ref());
            }
            futures::stream::iter(all)
        };
        futures::stream::once(all).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
