//! From the line to the core: edges, counts and frames, with their delays.

use super::*;

impl Run {
    /// What comes from the output process always takes the same time, and stays in order.
    pub(super) fn report(&mut self, event: Event) {
        self.schedule(self.now + Micros::new(200), Delivery::Event(event));
    }

    pub(super) fn deliver_sensed(&mut self, event: Event) {
        match event {
            Event::Edge { input, at, .. } => {
                if self.between.lose_edge.is_some_and(|l| l.0 == input) {
                    if let Some((_, true)) = self.between.lose_edge.take() {
                        let trouble = Event::Trouble {
                            trouble: Trouble::EdgesLost,
                            present: true,
                        };
                        self.schedule(at + Micros::from_millis(2), Delivery::Event(trouble));
                        let over = Event::Trouble {
                            trouble: Trouble::EdgesLost,
                            present: false,
                        };
                        self.schedule(at + Micros::from_millis(4), Delivery::Event(over));
                    }
                    return;
                }
                let arrives = at + Micros::new(self.rng.range(30, 800));
                self.last_edge = self.last_edge.max(arrives);
                self.schedule(self.last_edge, Delivery::Event(event));
            }
            Event::Encoder { at, .. } => {
                self.schedule(at + Micros::new(100), Delivery::Event(event));
            }
            _ => {}
        }
    }

    /// A frame comes some milliseconds after its exposure, with what a locator would find in it.
    pub(super) fn deliver_frame(&mut self, expose: Expose) {
        let at = expose.mid_exposure;
        if self.between.lose_frames > 0 {
            self.between.lose_frames -= 1;
            return;
        }
        let arrives = at + Micros::from_millis(self.rng.range(6, 14));
        self.last_frame = self.last_frame.max(arrives);
        let copies = if std::mem::take(&mut self.between.duplicate_frame) {
            2
        } else {
            1
        };
        let found = self.blobs(&expose);
        for _ in 0..copies {
            let frame = self.next_frame;
            self.next_frame = FrameId(frame.0 + 1);
            let (width, height) = self.line.world.picture;
            let seen = FrameSeen {
                camera: CameraId(0),
                frame,
                sequence: expose.sequence,
                mid_exposure: at,
                width: width as u16,
                height: height as u16,
                blobs: found.iter().map(|f| f.0).collect(),
            };
            self.note(|| trace::Line::Shown {
                frame,
                blobs: found.iter().map(|f| (f.0, f.1.number)).collect(),
            });
            self.checker.shown(frame, found.iter().map(|f| (f.0, f.1.number)));
            if self.frames.len() == FRAMES_MAX {
                self.frames.pop_first();
            }
            self.frames.insert(frame, found.iter().copied().collect());
            self.schedule(self.last_frame, Delivery::Event(Event::Frame(seen)));
        }
    }

    /// What stands out in the picture: squares as long as the parts, cut at its edges.
    pub(super) fn blobs(&mut self, expose: &Expose) -> ArrayVec<(Blob, Part), BLOBS_MAX> {
        let camera = &self.line.config.cameras[0];
        let (width, height) = self.line.world.picture;
        let mut found = ArrayVec::new();
        for view in &expose.parts {
            let (x, y) = view.centre_px(camera, width, height);
            let half = view.part.length.as_micrometres() as f64 / camera.um_per_px / 2.0;
            let noise = self.rng.range(-1, 1) as f64;
            let clip = |v: f64, max: u32| v.clamp(0.0, f64::from(max)) as u16;
            let (x0, x1) = (clip(x - half + noise, width), clip(x + half + noise, width));
            let (y0, y1) = (clip(y - half, height), clip(y + half, height));
            if x1 <= x0 + 4 || y1 <= y0 + 4 {
                continue;
            }
            let cut = x0 == 0 || y0 == 0 || u32::from(x1) == width || u32::from(y1) == height;
            let (w, h) = (x1 - x0, y1 - y0);
            let area_px = u32::from(w) * u32::from(h) * 3 / 4;
            let blob = Blob {
                x: x0,
                y: y0,
                width: w,
                height: h,
                area_px,
                cut,
            };
            if found.try_push((blob, view.part)).is_err() {
                break;
            }
        }
        found
    }
}
