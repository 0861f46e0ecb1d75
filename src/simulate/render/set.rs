//! A labelled set of pictures on disk: `elek simulate --render`.
//!
//! ```text
//! DIR/labels.csv              file,label,mask,scratch_mm2,dent_mm2,contamination_mm2,missing_mm2
//! DIR/pictures/000000.png     what the camera sees: one cap somewhere near the middle
//! DIR/masks/000000.png        grey: 0, or 60 × class (1 scratch, 2 dent, 3 contamination, 4 missing)
//! ```
//! Part k is drawn from `seed` and k alone, so a longer set begins with the shorter one.

use super::random::Random;
use super::{Mask, PartLook, Renderer, Scene, ScenePart};
use crate::simulate::part::Defect;
use crate::vision::frame::PixelFormat;
use anyhow::Context;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Grey levels between two classes of a mask, so that one can see them.
pub const MASK_STEP: u8 = 60;

/// What `render_set` draws.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderSet {
    pub count: u32,
    pub seed: u64,
    pub width: u32,
    pub height: u32,
    pub um_per_px: f64,
    /// Share of parts with a defect, 0 to 1.
    pub defective: f32,
}

impl Default for RenderSet {
    /// The simulated camera of the default configuration; half of the parts are good.
    fn default() -> Self {
        RenderSet {
            count: 100,
            seed: 1,
            width: 640,
            height: 480,
            um_per_px: 120.0,
            defective: 0.5,
        }
    }
}

/// Part `index` of the set that `seed` begins.
pub fn part_of_set(seed: u64, index: u32, defective: f32, um_per_px: f64, size: [u32; 2]) -> Scene {
    let mut r = Random::stream(seed, 0x100 + u64::from(index));
    let look_seed = r.next_u64();
    let bad = r.chance(defective);
    let look = PartLook::from_seed(look_seed, bad);
    // Near the middle, and the whole of it in the picture: 15 mm beside the centre are free.
    let free =
        |pixels: u32, most: f32| ((f64::from(pixels) * um_per_px / 2e3) as f32 - 15.0).clamp(0.0, most);
    let (ax, ay) = (free(size[0], 6.0), free(size[1], 4.0));
    let px = 1_000.0 / um_per_px as f32;
    let place = |pixels: u32, um: i32| pixels as f32 / 2.0 + um as f32 / 1_000.0 * px;
    let x = place(size[0], (r.range(-ax, ax) * 1_000.0) as i32);
    let y = place(size[1], (r.range(-ay, ay) * 1_000.0) as i32);
    let belt_um = i64::from(r.below(1_000_000));
    Scene {
        belt_um,
        seed: r.next_u64(),
        parts: vec![ScenePart { x, y, look }],
    }
}

/// Writes the set to `dir`, which is made; files of the same name are overwritten.
pub fn render_set(dir: &Path, set: &RenderSet) -> anyhow::Result<()> {
    for sub in ["pictures", "masks"] {
        let path = dir.join(sub);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
    }
    let path = dir.join("labels.csv");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut labels = BufWriter::new(file);
    writeln!(
        labels,
        "file,label,mask,scratch_mm2,dent_mm2,contamination_mm2,missing_mm2"
    )?;
    let mut renderer = Renderer::new(set.seed, set.width, set.height, set.um_per_px);
    let size = [renderer.width(), renderer.height()];
    let (mut rgb, mut mask) = (Vec::new(), Mask::default());
    for index in 0..set.count {
        let scene = part_of_set(set.seed, index, set.defective, set.um_per_px, size);
        renderer.frame(&scene, PixelFormat::Rgb3, &mut rgb, Some(&mut mask));
        let (picture, truth) = (
            format!("pictures/{index:06}.png"),
            format!("masks/{index:06}.png"),
        );
        write_png(&dir.join(&picture), &rgb, size, ExtendedColorType::Rgb8)?;
        let areas = areas_mm2(&mask, set.um_per_px);
        let label = scene.parts[0].look.label();
        let [scratch, dent, contamination, missing] = areas.map(|a| format!("{a:.3}"));
        writeln!(
            labels,
            "{picture},{label},{truth},{scratch},{dent},{contamination},{missing}"
        )?;
        for class in &mut mask.classes {
            *class *= MASK_STEP;
        }
        write_png(&dir.join(&truth), &mask.classes, size, ExtendedColorType::L8)?;
    }
    labels
        .flush()
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Area of each class of a mask, mm².
fn areas_mm2(mask: &Mask, um_per_px: f64) -> [f64; 4] {
    Defect::ALL.map(|kind| {
        let pixels = mask.classes.iter().filter(|&&c| c == kind.class()).count();
        pixels as f64 * um_per_px * um_per_px / 1e6
    })
}

fn write_png(path: &Path, bytes: &[u8], size: [u32; 2], colour: ExtendedColorType) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut out = BufWriter::new(file);
    PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Sub)
        .write_image(bytes, size[0], size[1], colour)
        .with_context(|| format!("cannot write {}", path.display()))?;
    out.flush()
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_pictures_masks_and_labels_that_agree() {
        let dir = tempfile::tempdir().unwrap();
        let set = RenderSet {
            count: 12,
            seed: 3,
            ..RenderSet::default()
        };
        render_set(dir.path(), &set).unwrap();
        let labels = fs::read_to_string(dir.path().join("labels.csv")).unwrap();
        let rows: Vec<Vec<&str>> = labels.lines().skip(1).map(|l| l.split(',').collect()).collect();
        assert_eq!(rows.len(), 12);
        for row in &rows {
            let picture = image::open(dir.path().join(row[0])).unwrap();
            assert_eq!((picture.width(), picture.height()), (640, 480));
            let mask = image::open(dir.path().join(row[2])).unwrap().to_luma8();
            let marked = mask.pixels().filter(|p| p.0[0] > 0).count();
            assert_eq!(marked > 0, row[1] != "good", "{row:?}");
            let sum: f64 = row[3..].iter().map(|a| a.parse::<f64>().unwrap()).sum();
            assert!(
                (sum - marked as f64 * 0.0144).abs() < 0.01,
                "{row:?}: {marked} pixels"
            );
        }
        assert!(rows.iter().any(|r| r[1] == "good") && rows.iter().any(|r| r[1] != "good"));
    }

    #[test]
    fn a_longer_set_begins_with_the_shorter_one() {
        let part = |index| part_of_set(5, index, 0.5, 120.0, [640, 480]);
        assert_eq!(part(4).seed, part(4).seed);
        assert_ne!(part(4).seed, part(5).seed);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = render_set(&file, &RenderSet::default()).unwrap_err();
        assert!(format!("{error:#}").contains("file"), "{error:#}");
    }
}
