//! The models compiled into the binary.
//!
//! To ship another one, put it and its entry in `models/manifest.toml` and add
//! its file name to the list below; the test checks every hash.

/// Embeds `models/manifest.toml` and the listed files of `models/`.
macro_rules! shipped {
    ($($file:literal),+ $(,)?) => {
        /// The manifest of all shipped models.
        pub const MANIFEST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/manifest.toml"));
        const FILES: &[(&str, &[u8])] =
            &[$(($file, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/", $file)))),+];
    };
}

shipped!("cap-classify.int8.onnx", "cap-segment.int8.onnx");

/// The bytes of a shipped model file.
pub fn file(name: &str) -> Option<&'static [u8]> {
    FILES
        .iter()
        .find(|(file, _)| *file == name)
        .map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::manifest::{describe, sha256};
    use std::path::Path;

    #[test]
    fn every_shipped_model_is_described_and_has_the_listed_hash() {
        let listed: toml::Table = MANIFEST.parse().unwrap();
        let mut described = Vec::new();
        for model in listed
            .get("model")
            .and_then(|m| m.as_array())
            .into_iter()
            .flatten()
        {
            let name = model["name"].as_str().unwrap();
            let info = describe(Path::new("."), &format!("builtin:{name}"), None).unwrap();
            assert_eq!(sha256(&info.bytes().unwrap()), info.sha256, "{name}");
            described.push(info.file);
        }
        assert_eq!(described.len(), FILES.len(), "one entry of the manifest per file");
    }

    #[test]
    fn together_they_stay_small() {
        // The limit that the product sets itself, so that an update stays a quick download.
        let total: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(total < 15_000_000, "{total} bytes");
    }
}
