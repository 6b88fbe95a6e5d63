//! The images of an environment, in a table of its store.
//!
//! The engine asks for manifests in every pass, so all records are kept in memory; there are as
//! many as somebody has typed `image add`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use calvin_engine::ports::Images;
use calvin_model::{
    ConfigError, Digest, ImageManifest, ImageRef,
    image::{DataKind, ImageTag},
};
use redb::{ReadableTable, TableDefinition};
use ring::digest::SHA256;
use serde::{Deserialize, Serialize};

use super::digest::{DigestError, digest_of};
use crate::store::Database;

/// By tag (`web@1.0`): a JSON `StoredImage`.
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("images");
/// The form of a record; grows when a field changes its meaning.
const FORMAT: u32 = 1;
/// What an author writes by hand is a few kilobytes; more was given by mistake.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;

/// One image as it was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Name, version and digest.
    pub image: ImageRef,
    /// The provider that makes machines of it.
    pub provider: String,
    /// Where it lies.
    pub directory: PathBuf,
    /// Its `image.toml`, as it was read. Whether it keeps data stands here; a fleet of such an
    /// image is refused at apply.
    pub manifest: ImageManifest,
    /// SHA-256 of `image.toml` alone, which agents show.
    pub manifest_digest: Digest,
    /// When it was added, milliseconds since 1970 UTC.
    pub added_ms: u64,
    /// Who added it; empty in records that were made before this was kept.
    #[serde(default)]
    pub added_by: String,
}

impl ImageRecord {
    /// Whether machines of it keep data that must outlive them.
    #[must_use]
    pub fn keeps_data(&self) -> bool {
        self.manifest.data == DataKind::Volume
    }
}

#[derive(Serialize, Deserialize)]
struct StoredImage {
    format: u32,
    #[serde(flatten)]
    record: ImageRecord,
}

/// What `add` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New(Arc<ImageRecord>),
    /// The same content had been added before; its directory may have moved.
    Known(Arc<ImageRecord>),
}

impl Added {
    /// The record, new or known.
    #[must_use]
    pub fn record(&self) -> &Arc<ImageRecord> {
        match self {
            Self::New(record) | Self::Known(record) => record,
        }
    }
}

/// Why an image was not added or read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Its `image.toml` cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its `image.toml` is far larger than one written by hand.
    #[error("{} has {bytes} bytes, at most {MANIFEST_BYTES_MAX} are allowed", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Its `image.toml` is wrong.
    #[error(transparent)]
    Manifest(#[from] ConfigError),
    /// Its content cannot be hashed.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A build is immutable, and this name and version stand for another.
    #[error(
        "image {tag} was added with another content ({known}, now {found}): give the new build a new version"
    )]
    OtherContent {
        /// Name and version.
        tag: ImageTag,
        /// The digest on record.
        known: String,
        /// The digest of the directory now.
        found: String,
    },
    /// The same build cannot belong to two providers.
    #[error("image {tag} was added for provider {known}, not for {asked}")]
    OtherProvider {
        /// Name and version.
        tag: ImageTag,
        /// The provider on record.
        known: String,
        /// The provider given.
        asked: String,
    },
    /// A record is of a form that this version does not know.
    #[error("the record of image {tag} has format {found}, this version knows {FORMAT}")]
    Format {
        /// Its key.
        tag: String,
        /// Its format.
        found: u64,
    },
    /// A record cannot be read.
    #[error("the record of image {tag} is damaged")]
    Damaged {
        /// Its key.
        tag: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The store failed.
    #[error("could not {doing} the images in the store")]
    Store {
        /// `read` or `write`.
        doing: &'static str,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
}

fn store_failed<E: Into<redb::Error>>(doing: &'static str) -> impl FnOnce(E) -> ImageError {
    move |error| ImageError::Store {
        doing,
        source: Box::new(error.into()),
    }
}

/// The images of an environment. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct ImageStore {
    database: Arc<Database>,
    /// For who adds an image. Held over the commit, so that two that add the same one do so one
    /// after the other.
    adding: Arc<Mutex<()>>,
    /// Never held while anybody waits for the disk: agents are judged by these.
    records: Arc<RwLock<BTreeMap<ImageTag, Arc<ImageRecord>>>>,
}

impl ImageStore {
    /// Opens the table in the environment's database, and makes it if it is not there.
    ///
    /// # Errors
    /// Where the store fails or holds a record that this version cannot read.
    pub fn open(database: Arc<Database>) -> Result<Self, ImageError> {
        let transaction = database.begin_write().map_err(store_failed("write"))?;
        transaction
            .open_table(IMAGES)
            .map_err(store_failed("write"))?;
        transaction.commit().map_err(store_failed("write"))?;
        let records = Arc::new(RwLock::new(load(&database)?));
        Ok(Self {
            database,
            adding: Arc::default(),
            records,
        })
    }

    /// Adds the image in `directory` for `provider`: reads its `image.toml`, computes its digest
    /// and records both, with who added it. The files stay where they are.
    ///
    /// Reads all of the image: call it where blocking is allowed.
    ///
    /// # Errors
    /// An image whose files are wrong, or whose name and version stand for other content.
    pub fn add(
        &self,
        directory: &Path,
        provider: &str,
        added_by: &str,
        added_ms: u64,
    ) -> Result<Added, ImageError> {
        let record = read_image(directory, provider, added_by, added_ms)?;
        let tag = record.image.tag.clone();
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.get(&tag);
        if let Some(known) = &known {
            refuse_other(known, &record)?;
            if known.directory == record.directory {
                return Ok(Added::Known(Arc::clone(known)));
            }
        }
        let is_new = known.is_none();
        let record = Arc::new(record);
        self.write(&record)?;
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.insert(tag, Arc::clone(&record));
        drop(records);
        Ok(if is_new {
            Added::New(record)
        } else {
            Added::Known(record)
        })
    }

    /// The image of this name and version.
    #[must_use]
    pub fn get(&self, tag: &ImageTag) -> Option<Arc<ImageRecord>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.get(tag).cloned()
    }

    /// All images, by name and version.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<ImageRecord>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.values().cloned().collect()
    }

    fn write(&self, record: &Arc<ImageRecord>) -> Result<(), ImageError> {
        let tag = record.image.tag.to_string();
        let stored = StoredImage {
            format: FORMAT,
            record: ImageRecord::clone(record),
        };
        let json = serde_json::to_vec(&stored).map_err(|source| ImageError::Damaged {
            tag: tag.clone(),
            source,
        })?;
        let transaction = self.database.begin_write().map_err(store_failed("write"))?;
        {
            let mut table = transaction
                .open_table(IMAGES)
                .map_err(store_failed("write"))?;
            table
                .insert(tag.as_str(), json.as_slice())
                .map_err(store_failed("write"))?;
        }
        transaction.commit().map_err(store_failed("write"))
    }
}

impl Images for ImageStore {
    fn manifest(&self, image: &ImageRef) -> Option<ImageManifest> {
        let record = self.get(&image.tag)?;
        (record.image.digest == image.digest).then(|| record.manifest.clone())
    }

    fn manifest_digest(&self, image: &ImageRef) -> Option<Digest> {
        let record = self.get(&image.tag)?;
        (record.image.digest == image.digest).then(|| record.manifest_digest.clone())
    }
}

fn load(database: &Database) -> Result<BTreeMap<ImageTag, Arc<ImageRecord>>, ImageError> {
    let transaction = database.begin_read().map_err(store_failed("read"))?;
    let table = transaction
        .open_table(IMAGES)
        .map_err(store_failed("read"))?;
    let mut records = BTreeMap::new();
    for row in table.iter().map_err(store_failed("read"))? {
        let (key, value) = row.map_err(store_failed("read"))?;
        let record = decode(key.value(), value.value())?;
        records.insert(record.image.tag.clone(), Arc::new(record));
    }
    Ok(records)
}

/// Looks at the format before anything else: a newer record may lack what this version needs.
fn decode(tag: &str, json: &[u8]) -> Result<ImageRecord, ImageError> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    let damaged = |source| ImageError::Damaged {
        tag: tag.to_owned(),
        source,
    };
    let head: Head = serde_json::from_slice(json).map_err(damaged)?;
    if head.format != u64::from(FORMAT) {
        return Err(ImageError::Format {
            tag: tag.to_owned(),
            found: head.format,
        });
    }
    let stored: StoredImage = serde_json::from_slice(json).map_err(damaged)?;
    Ok(stored.record)
}

fn refuse_other(known: &ImageRecord, found: &ImageRecord) -> Result<(), ImageError> {
    let tag = || known.image.tag.clone();
    if known.image.digest != found.image.digest {
        return Err(ImageError::OtherContent {
            tag: tag(),
            known: known.image.digest.short().to_owned(),
            found: found.image.digest.short().to_owned(),
        });
    }
    if known.provider != found.provider {
        return Err(ImageError::OtherProvider {
            tag: tag(),
            known: known.provider.clone(),
            asked: found.provider.clone(),
        });
    }
    Ok(())
}

fn read_image(
    directory: &Path,
    provider: &str,
    added_by: &str,
    added_ms: u64,
) -> Result<ImageRecord, ImageError> {
    // By its real path: what a link points to tomorrow is not what was added today.
    let directory = fs::canonicalize(directory).map_err(|source| ImageError::Read {
        path: directory.to_owned(),
        source,
    })?;
    let path = directory.join("image.toml");
    let failed = |source| ImageError::Read {
        path: path.clone(),
        source,
    };
    let bytes = fs::metadata(&path).map_err(failed)?.len();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(ImageError::TooLarge { path, bytes });
    }
    let text = fs::read_to_string(&path).map_err(failed)?;
    let manifest = ImageManifest::parse(&path.display().to_string(), &text)?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(ring::digest::digest(&SHA256, text.as_bytes()).as_ref());
    Ok(ImageRecord {
        image: ImageRef {
            tag: manifest.tag(),
            digest: digest_of(&directory)?,
        },
        provider: provider.to_owned(),
        directory,
        manifest,
        manifest_digest: Digest::from_sha256(sha256),
        added_ms,
        added_by: added_by.to_owned(),
    })
}
