//! What a model needs to know about itself: the `manifest.toml` beside it.
//!
//! A recipe names a model file and pins its sha256. [`resolve`] finds the entry
//! of the manifest in the same folder that names this file, checks that both
//! agree with the bytes on disk, and returns a [`ModelInfo`]. `builtin:NAME`
//! does the same with the models compiled into the binary.
//!
//! Nothing here opens the ONNX graph: that is [`super::engine`]'s task, and for
//! files from outside [`super::sandbox`]'s first.

mod raw;

use super::builtin;
use super::inspection::{CLASSES_MAX, MASK_CLASSES_MAX};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Name of the file that describes the models of a folder.
pub const MANIFEST_FILE: &str = "manifest.toml";

/// Prefix of models that are compiled in.
pub const BUILTIN_PREFIX: &str = "builtin:";

/// Larger model files are refused: a float U-Net on ResNet50, the largest kind
/// this product means to run, has about 130 MB.
pub const MODEL_BYTES_MAX: u64 = 256 << 20;

/// A manifest of more than this is not one.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// A model as its manifest describes it, checked against the recipe's sha256.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    pub name: String,
    pub task: Task,
    pub file: ModelFile,
    /// Of the ONNX file; as pinned by the recipe.
    pub sha256: [u8; 32],
    /// Side of the square input in pixels.
    pub size: u32,
    pub input_name: String,
    /// x = (v - mean) / scale per channel, v in 0..=255, channels in `channels` order.
    pub mean: [f32; 3],
    pub scale: [f32; 3],
    pub channels: Channels,
    pub output_name: String,
    pub activation: Activation,
    pub labels: Vec<String>,
    /// Mask probability from which a pixel belongs to a defect.
    pub threshold: f32,
    /// How the picture is shrunk, as in training.
    pub filter: Filter,
    /// Multiply-accumulates of one inference, for `elek check`.
    pub macs: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelFile {
    /// Compiled into the binary.
    Builtin(String),
    Path(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Classify,
    Segment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    Rgb,
    Bgr,
}

/// What is already in the graph; the rest is done after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Logits: softmax (classify, several mask classes) or sigmoid (one mask channel) is applied by elek.
    None,
    Softmax,
    Sigmoid,
}

/// Both widened by the shrink factor (antialiased).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Bilinear,
    /// Catmull-Rom, a = -0.5.
    Bicubic,
}

/// Why a model cannot be used. `message` says what and where, `help` what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {help}")]
pub struct ManifestError {
    pub about: About,
    pub message: String,
    pub help: String,
}

/// Which key of the recipe the error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Model,
    Sha256,
}

impl ManifestError {
    pub(super) fn model(message: impl Into<String>, help: impl Into<String>) -> Self {
        ManifestError {
            about: About::Model,
            message: message.into(),
            help: help.into(),
        }
    }
}

impl ModelInfo {
    /// The bytes of the ONNX file, checked again against `sha256`: the file may
    /// have changed since the configuration was read.
    pub fn bytes(&self) -> Result<Cow<'static, [u8]>, ManifestError> {
        match &self.file {
            ModelFile::Builtin(file) => builtin::file(file).map(Cow::Borrowed).ok_or_else(|| {
                ManifestError::model(
                    format!("no file {file:?} is compiled in"),
                    "use a model that `elek model info` knows",
                )
            }),
            ModelFile::Path(path) => {
                let bytes = read_model(path)?;
                let found = sha256(&bytes);
                if found != self.sha256 {
                    return Err(mismatch(path, "the configuration was read", &self.sha256, &found));
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }

    pub fn is_builtin(&self) -> bool {
        matches!(self.file, ModelFile::Builtin(_))
    }

    /// As a recipe would write it.
    pub fn file_text(&self) -> String {
        match &self.file {
            ModelFile::Builtin(_) => format!("{BUILTIN_PREFIX}{}", self.name),
            ModelFile::Path(path) => path.display().to_string(),
        }
    }

    /// Refuses a model of the other task, such as a U-Net given as `classify`.
    pub fn expect(&self, task: Task) -> Result<(), ManifestError> {
        if self.task == task {
            return Ok(());
        }
        Err(ManifestError::model(
            format!(
                "{} is a model for `{}`, not for `{}`",
                self.file_text(),
                self.task.word(),
                task.word()
            ),
            format!("give it as `{}`, or name another model here", self.task.word()),
        ))
    }
}

impl Task {
    /// As in manifests and recipes.
    pub fn word(self) -> &'static str {
        match self {
            Task::Classify => "classify",
            Task::Segment => "segment",
        }
    }
}

/// Finds a recipe's model: a path (relative to `base`) with a manifest beside
/// it, or `builtin:NAME`. `pinned` is the recipe's sha256 in hex.
pub fn resolve(base: &Path, model: &str, pinned: Option<&str>) -> Result<ModelInfo, ManifestError> {
    let info = describe(base, model, pinned)?;
    let most = match info.task {
        Task::Classify => CLASSES_MAX,
        Task::Segment => MASK_CLASSES_MAX,
    };
    if info.labels.len() > most {
        return Err(ManifestError::model(
            format!(
                "{} has {} labels; rules can judge at most {most}",
                info.file_text(),
                info.labels.len()
            ),
            "train a model for the few classes that the rules name",
        ));
    }
    Ok(info)
}

/// Like [`resolve`], but also for models with more labels than rules can judge.
pub fn describe(base: &Path, model: &str, pinned: Option<&str>) -> Result<ModelInfo, ManifestError> {
    let pinned = pinned.map(parse_pin).transpose()?;
    match model.strip_prefix(BUILTIN_PREFIX) {
        Some(name) => describe_builtin(name, pinned),
        None => describe_path(&base.join(model), pinned),
    }
}

fn describe_builtin(name: &str, pinned: Option<[u8; 32]>) -> Result<ModelInfo, ManifestError> {
    let origin = raw::Origin {
        shown: "the built-in manifest",
        folder: None,
    };
    let manifest = raw::parse(builtin::MANIFEST, &origin)?;
    let Some(entry) = manifest.named(name) else {
        let known = manifest.names();
        let help = if known.is_empty() {
            "this build has none; give the path of an ONNX file with a manifest.toml beside it".to_owned()
        } else {
            format!("it has: {}", known.join(", "))
        };
        return Err(ManifestError::model(
            format!("there is no built-in model {name:?}"),
            help,
        ));
    };
    let file = entry
        .preferred_file()
        .filter(|f| builtin::file(&f.file).is_some())
        .ok_or_else(|| {
            ManifestError::model(
                format!("the file of the built-in model {name:?} is not compiled in"),
                "this build is incomplete: build it again with the folder models/ in place",
            )
        })?;
    let sha256 = raw::file_hash(file, &origin, &entry.name)?;
    if let Some(pin) = pinned
        && pin != sha256
    {
        return Err(mismatch(
            Path::new(&format!("{BUILTIN_PREFIX}{name}")),
            "the recipe",
            &pin,
            &sha256,
        ));
    }
    raw::to_info(entry, ModelFile::Builtin(file.file.clone()), sha256, &origin)
}

fn describe_path(path: &Path, pinned: Option<[u8; 32]>) -> Result<ModelInfo, ManifestError> {
    let bytes = read_model(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let manifest_path = folder.join(MANIFEST_FILE);
    let text = read_manifest(&manifest_path, path)?;
    let shown = manifest_path.display().to_string();
    let origin = raw::Origin {
        shown: &shown,
        folder: Some(folder),
    };
    let manifest = raw::parse(&text, &origin)?;
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let Some((entry, file)) = manifest.for_file(&name) else {
        return Err(ManifestError::model(
            format!("{shown} has no model with the file {name:?}"),
            format!(
                "add a [[model]] entry for it, or use one of: {}",
                manifest.files().join(", ")
            ),
        ));
    };
    let listed = raw::file_hash(file, &origin, &entry.name)?;
    let found = sha256(&bytes);
    if listed != found {
        return Err(mismatch(path, &shown, &listed, &found));
    }
    if let Some(pin) = pinned
        && pin != found
    {
        return Err(ManifestError {
            about: About::Sha256,
            ..mismatch(path, "the recipe", &pin, &found)
        });
    }
    raw::to_info(entry, ModelFile::Path(path.to_owned()), found, &origin)
}

fn read_model(path: &Path) -> Result<Vec<u8>, ManifestError> {
    let what = format!("model file {}", path.display());
    let found = std::fs::metadata(path).map_err(|e| missing(path, &what, &e))?;
    if !found.is_file() {
        return Err(ManifestError::model(
            format!("{what} is not a file"),
            "name the .onnx file itself",
        ));
    }
    if found.len() == 0 {
        return Err(ManifestError::model(
            format!("{what} is empty"),
            "copy the model again",
        ));
    }
    if found.len() > MODEL_BYTES_MAX {
        return Err(ManifestError::model(
            format!(
                "{what} has {} MB, more than {} MB",
                found.len() >> 20,
                MODEL_BYTES_MAX >> 20
            ),
            "this is no model for this station: use a smaller one",
        ));
    }
    std::fs::read(path).map_err(|e| missing(path, &what, &e))
}

fn missing(path: &Path, what: &str, error: &std::io::Error) -> ManifestError {
    if error.kind() != std::io::ErrorKind::NotFound {
        return ManifestError::model(format!("{what} cannot be read: {error}"), "check its permissions");
    }
    let mut others: Vec<String> = path
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.ends_with(".onnx"))
        .collect();
    others.sort();
    others.truncate(8); // enough to spot a misspelling
    let help = if others.is_empty() {
        "check the path; it is relative to the configuration file".to_owned()
    } else {
        format!("the folder has: {}", others.join(", "))
    };
    ManifestError::model(format!("{what} does not exist"), help)
}

fn read_manifest(path: &Path, model: &Path) -> Result<String, ManifestError> {
    let bad = |why: String, help: &str| Err(ManifestError::model(why, help));
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return bad(
                format!("there is no {MANIFEST_FILE} beside {}", model.display()),
                "copy the manifest that came with the model into the same folder",
            );
        }
        Ok(found) if found.len() > MANIFEST_BYTES_MAX => {
            return bad(
                format!(
                    "{} has {} bytes, too many for a manifest",
                    path.display(),
                    found.len()
                ),
                "put the model's own manifest there",
            );
        }
        _ => {}
    }
    match std::fs::read(path) {
        Err(e) => bad(
            format!("{} cannot be read: {e}", path.display()),
            "check its permissions",
        ),
        Ok(bytes) => match String::from_utf8(bytes) {
            Err(_) => bad(
                format!("{} is not UTF-8 text", path.display()),
                "put the model's own manifest there",
            ),
            Ok(text) => Ok(text),
        },
    }
}

fn mismatch(path: &Path, pinned_by: &str, pinned: &[u8; 32], found: &[u8; 32]) -> ManifestError {
    ManifestError::model(
        format!(
            "{} is not the file that {pinned_by} means: sha256 {}… expected, {}… found",
            path.display(),
            &hex(pinned)[..12],
            &hex(found)[..12]
        ),
        format!(
            "restore the file, or if the new one is meant, write sha256 = \"{}\"",
            hex(found)
        ),
    )
}

fn parse_pin(text: &str) -> Result<[u8; 32], ManifestError> {
    parse_hex(text).ok_or_else(|| ManifestError {
        about: About::Sha256,
        message: format!(
            "sha256 has to be 64 hexadecimal digits, here are {} characters",
            text.chars().count()
        ),
        help: "`elek model info FILE` prints the line to copy".to_owned(),
    })
}

/// Hash of a file's bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// In lower-case hexadecimal digits.
pub fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    if digits.len() != 64 {
        return None;
    }
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests;
