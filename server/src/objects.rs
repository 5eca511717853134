//! Stores of objects by their URLs: a folder, or a bucket of a provider that this build knows.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path as Folder, sync::Arc};

use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreScheme, local::LocalFileSystem, parse_url_opts,
    path::Path,
};
use url::Url;

/// What begins the variables of the environment that are about stores. Others, such as REGION, are about something else.
const PROVIDERS: [&str; 3] = ["aws_", "azure_", "google_"];

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither a URL nor a path.
    #[error("{0:?} is no URL and no absolute path of a folder")]
    NotAUrl(String),
    /// The folder cannot be made.
    #[error("cannot create the folder {0}")]
    Folder(String, #[source] std::io::Error),
    /// The URL is of a kind that is not known, or that this build leaves out.
    #[error("cannot open the store {0}; a build with the feature aws, azure or gcp opens more")]
    Open(String, #[source] ObjectError),
}

/// Opens the store at a URL or in a folder, which is created with this mode; and says where in it everything belongs.
///
/// Credentials come from the environment, under the names that each provider's own tools use.
pub fn open(place: &str, mode: u32) -> Result<(Arc<dyn ObjectStore>, Path), OpenError> {
    let not_a_url = || OpenError::NotAUrl(place.to_owned());
    let url = match Url::parse(place) {
        Ok(url) => url,
        Err(_) => Url::from_directory_path(place).map_err(|()| not_a_url())?,
    };
    if let Ok((ObjectStoreScheme::Local, _)) = ObjectStoreScheme::parse(&url) {
        let folder = url.to_file_path().map_err(|()| not_a_url())?;
        return Ok((local(&folder, mode, place)?, Path::default()));
    }
    let variables = std::env::vars()
        .map(|(name, value)| (name.to_lowercase(), value))
        .filter(|(name, _)| PROVIDERS.iter().any(|prefix| name.starts_with(prefix)));
    let opened = parse_url_opts(&url, variables);
    let (objects, root) = opened.map_err(|error| OpenError::Open(place.to_owned(), error))?;
    Ok((Arc::from(objects), root))
}

/// A folder as a store. What it says is written is on the disk; folders within it that have become empty go.
fn local(folder: &Folder, mode: u32, place: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .map_err(|error| OpenError::Folder(folder.display().to_string(), error))?;
    let objects = LocalFileSystem::new_with_prefix(folder)
        .map_err(|error| OpenError::Open(place.to_owned(), error))?;
    Ok(Arc::new(objects.with_fsync(true).with_automatic_cleanup(true)))
}
