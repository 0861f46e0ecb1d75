//! One worker's way from a frame to an [`Inspection`]: look, classify, and
//! segment when the rules cannot be settled without the mask.

use super::engine::Engine;
use super::inspection::{CLASSES_MAX, Inspection, MASK_CLASSES_MAX};
use super::manifest::{ModelInfo, Task};
use super::regions::{Place, Regions};
use super::sandbox;
use crate::config::{self, Crop, Recipe};
use crate::kernels::team::Team;
use crate::station::event::{Blob, InspectFault};
use crate::station::judge::{self, Rules};
use crate::vision::frame::Frame;
use crate::vision::preprocess::{Preprocessor, View};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::Instant;

/// The models of one recipe, for one thread. After the first parts it
/// allocates nothing itself; tract does inside a run.
#[derive(Debug)]
pub struct Inspector {
    recipe: String,
    rules: Rules,
    um_per_px: f64,
    crop: Crop,
    classify: Option<Net>,
    segment: Option<Segment>,
}

/// What the models saw of the last part, and the mask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    pub classify: Option<Input<'a>>,
    pub segment: Option<Input<'a>>,
    pub mask: Option<Mask<'a>>,
}

/// The exact input of a model: size × size × 3 bytes, rows from the top, red first.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub size: u32,
    pub rgb: &'a [u8],
    /// The rectangle of the full picture that it shows.
    pub view: View,
}

/// Size × size bytes, 0 no defect, else mask label + 1.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    pub size: u32,
    pub classes: &'a [u8],
    pub view: View,
}

/// A model with its picture.
#[derive(Debug)]
struct Net {
    info: Arc<ModelInfo>,
    engine: Engine,
    preprocess: Preprocessor,
    rgb: Vec<u8>,
    /// Of the last part; `None` when the model did not see it.
    view: Option<View>,
}

#[derive(Debug)]
struct Segment {
    net: Net,
    regions: Regions,
}

impl Inspector {
    /// Loads the recipe's models; those from outside are tried in a child process first.
    pub fn load(recipe: &Recipe, camera: &config::Camera) -> Result<Inspector> {
        Inspector::with_team(recipe, camera, None)
    }

    /// The same with a team that helps whichever inspector asks first.
    pub fn with_team(
        recipe: &Recipe,
        camera: &config::Camera,
        team: Option<&Arc<Team>>,
    ) -> Result<Inspector> {
        let load = || -> Result<Inspector> {
            ensure!(
                recipe.classify.is_some() || recipe.segment.is_some(),
                "there is neither `classify` nor `segment`, so nothing can be inspected"
            );
            let net =
                |info: &Arc<ModelInfo>, task| Net::load(info, task, recipe.crop, camera.um_per_px, team);
            let classify = recipe
                .classify
                .as_ref()
                .map(|info| net(info, Task::Classify))
                .transpose()?;
            let segment = recipe
                .segment
                .as_ref()
                .map(|info| net(info, Task::Segment))
                .transpose()?;
            Ok(Inspector {
                recipe: recipe.name.clone(),
                rules: recipe.rules.clone(),
                um_per_px: camera.um_per_px,
                crop: recipe.crop,
                classify,
                segment: segment.map(Segment::new),
            })
        };
        load().with_context(|| format!("recipe {:?}", recipe.name))
    }

    /// Another inspector for another thread; the weights are shared.
    pub fn fork(&self) -> Result<Inspector> {
        let net = |net: &Net| net.fork(self.crop, self.um_per_px);
        Ok(Inspector {
            recipe: self.recipe.clone(),
            rules: self.rules.clone(),
            um_per_px: self.um_per_px,
            crop: self.crop,
            classify: self.classify.as_ref().map(net).transpose()?,
            segment: self
                .segment
                .as_ref()
                .map(|s| net(&s.net))
                .transpose()?
                .map(Segment::new),
        })
    }

    /// Classifies, then segments if the rules need it. `blob` is `None` when the
    /// recipe looks at the whole picture. `locate_us` is left 0: the caller knows.
    pub fn inspect(&mut self, frame: &Frame, blob: Option<Blob>) -> Result<Inspection, InspectFault> {
        let mut inspection = Inspection::default();
        let Inspector {
            classify, segment, ..
        } = self;
        // What is shown afterwards belongs to this part or is absent.
        for net in classify.iter_mut().chain(segment.iter_mut().map(|s| &mut s.net)) {
            net.view = None;
        }
        if let Some(net) = classify {
            let start = Instant::now();
            net.look(frame, blob)?;
            let seen = Instant::now();
            let scores = net.run(&self.recipe)?;
            inspection.scores = Some(scores.iter().copied().collect());
            inspection.times.preprocess_us = micros(start, seen);
            inspection.times.classify_us = micros(seen, Instant::now());
        }
        if let Some(segment) = segment
            && judge::needs_segment(&self.rules, &inspection)
        {
            segment.inspect(
                &self.recipe,
                self.um_per_px,
                classify.as_ref(),
                frame,
                blob,
                &mut inspection,
            )?;
        }
        Ok(inspection)
    }

    /// What the models saw of the last part, and the mask.
    pub fn inputs(&self) -> Inputs<'_> {
        let mask = self.segment.as_ref().and_then(|s| {
            Some(Mask {
                size: s.regions.side() as u32,
                classes: s.regions.map(),
                view: s.net.view?,
            })
        });
        Inputs {
            classify: self.classify.as_ref().and_then(Net::input),
            segment: self.segment.as_ref().and_then(|s| s.net.input()),
            mask,
        }
    }
}

impl Net {
    fn load(
        info: &Arc<ModelInfo>,
        task: Task,
        crop: Crop,
        um_per_px: f64,
        team: Option<&Arc<Team>>,
    ) -> Result<Net> {
        info.expect(task)?;
        let most = match task {
            Task::Classify => CLASSES_MAX,
            Task::Segment => MASK_CLASSES_MAX,
        };
        ensure!(
            info.labels.len() <= most,
            "{} has more than {most} labels",
            info.file_text()
        );
        let bytes = info.bytes()?;
        if !info.is_builtin() {
            sandbox::examine_bytes(&bytes, info)?;
        }
        let engine = Engine::with_team(&bytes, info, team)?;
        Ok(Self::new(info.clone(), engine, crop, um_per_px))
    }

    fn new(info: Arc<ModelInfo>, engine: Engine, crop: Crop, um_per_px: f64) -> Net {
        let preprocess = Preprocessor::new(crop, info.size, info.filter, um_per_px);
        let rgb = vec![0; info.size as usize * info.size as usize * 3];
        Net {
            info,
            engine,
            preprocess,
            rgb,
            view: None,
        }
    }

    fn fork(&self, crop: Crop, um_per_px: f64) -> Result<Net> {
        Ok(Self::new(self.info.clone(), self.engine.fork()?, crop, um_per_px))
    }

    fn look(&mut self, frame: &Frame, blob: Option<Blob>) -> Result<View, InspectFault> {
        let view = self.preprocess.run(frame, blob, &mut self.rgb).map_err(|error| {
            tracing::warn!(frame = %frame.id, %error, "a picture cannot be read");
            InspectFault::Picture
        })?;
        self.view = Some(view);
        Ok(view)
    }

    fn run(&mut self, recipe: &str) -> Result<&[f32], InspectFault> {
        self.engine.run(&self.rgb).map_err(|error| {
            let error = format!("{error:#}");
            tracing::warn!(recipe, model = self.info.name, error, "a model failed");
            InspectFault::Model
        })
    }

    /// Both would make the same picture of a part.
    fn sees_like(&self, other: &Net) -> bool {
        self.info.size == other.info.size && self.info.filter == other.info.filter
    }

    fn input(&self) -> Option<Input<'_>> {
        Some(Input {
            size: self.info.size,
            rgb: &self.rgb,
            view: self.view?,
        })
    }
}

impl Segment {
    fn new(net: Net) -> Segment {
        // [1, channels, side, side], checked when the model was loaded.
        let side = net.engine.output_shape()[3];
        let regions = Regions::new(side, net.info.labels.len(), net.info.threshold);
        Segment { net, regions }
    }

    fn inspect(
        &mut self,
        recipe: &str,
        um_per_px: f64,
        classifier: Option<&Net>,
        frame: &Frame,
        blob: Option<Blob>,
        inspection: &mut Inspection,
    ) -> Result<(), InspectFault> {
        let start = Instant::now();
        let view = match classifier.filter(|c| c.sees_like(&self.net)).and_then(Net::input) {
            Some(same) => {
                self.net.rgb.copy_from_slice(same.rgb);
                self.net.view = Some(same.view);
                same.view
            }
            None => self.net.look(frame, blob)?,
        };
        let seen = Instant::now();
        let mask_side = self.regions.side() as f64;
        let um_per_mask_px = match view.um_per_input_px {
            Some(um) => (
                um * f64::from(self.net.info.size) / mask_side,
                um * f64::from(self.net.info.size) / mask_side,
            ),
            // Stretched: each side has a scale of its own, and the picture's is known.
            None => (
                f64::from(view.width) * um_per_px / mask_side,
                f64::from(view.height) * um_per_px / mask_side,
            ),
        };
        let probabilities = self.net.run(recipe)?;
        let done = Instant::now();
        let View {
            x, y, width, height, ..
        } = view;
        let place = Place {
            x,
            y,
            width,
            height,
            picture: (frame.width, frame.height),
            um_per_mask_px,
        };
        inspection.defects = Some(self.regions.measure(probabilities, &place));
        inspection.times.preprocess_us += micros(start, seen);
        inspection.times.segment_us = micros(seen, done);
        inspection.times.regions_us = micros(done, Instant::now());
        Ok(())
    }
}

fn micros(from: Instant, to: Instant) -> u32 {
    to.duration_since(from).as_micros().min(u128::from(u32::MAX)) as u32
}
