//! How one part looks: turn, size, colour, and its defects, all drawn from one
//! seed, so that the truth about a part can be had again at any time.

use super::cap::{Texel, length, segment};
use super::random::{Random, sin_cos, smooth};
use crate::simulate::part::{Defect, Part};

impl Defect {
    /// The label of the shipped models.
    pub fn label(self) -> &'static str {
        match self {
            Defect::Scratch => "scratch",
            Defect::Dent => "dent",
            Defect::Contamination => "contamination",
            Defect::Missing => "missing",
        }
    }

    /// Its number in a class map, where 0 is no defect.
    pub fn class(self) -> u8 {
        match self {
            Defect::Scratch => 1,
            Defect::Dent => 2,
            Defect::Contamination => 3,
            Defect::Missing => 4,
        }
    }
}

/// One defect in the cap's own frame, in mm from its centre.
#[derive(Clone, Debug)]
enum Shape {
    /// Paint gone down to the metal along a bent line.
    Scratch {
        points: [[f32; 2]; 7],
        width: f32,
        strength: f32,
    },
    /// A shallow bowl: centre, half axes, turn, depth over its smaller half axis.
    Dent {
        centre: [f32; 2],
        axes: [f32; 2],
        turn: [f32; 2],
        steep: f32,
    },
    /// Something stuck on: overlapping drops of one colour.
    Contamination {
        drops: [[f32; 3]; 5],
        colour: [f32; 3],
        opacity: f32,
    },
    /// A piece broken out of the rim: three overlapping bites.
    Missing { bites: [[f32; 3]; 3] },
}

#[derive(Clone, Debug)]
struct Flaw {
    kind: Defect,
    shape: Shape,
    /// A circle around all of it: nothing happens outside.
    bound: [f32; 3],
}

/// A speck of dust that no limit asks for: belongs to good and bad parts alike.
#[derive(Clone, Copy, Debug)]
struct Speck {
    at: [f32; 3],
    shade: f32,
}

/// The look of one part. Same seed, same look, on every machine.
#[derive(Clone, Debug)]
pub struct PartLook {
    /// Sine and cosine of the turn in the picture.
    pub(super) turn: (f32, f32),
    /// Size over nominal.
    pub(super) scale: f32,
    pub(super) base: [f32; 3],
    pub(super) ink: [f32; 3],
    /// How much the lacquer shines.
    pub(super) gloss: f32,
    defects: Vec<Flaw>,
    specks: Vec<Speck>,
}

/// Diameter of the cap's map.
const NOMINAL_UM: f32 = 28_000.0;

/// Base colour and print. Each stands out from the dark belt.
const COLOURS: [([f32; 3], [f32; 3]); 4] = [
    ([206.0, 48.0, 44.0], [236.0, 230.0, 214.0]),
    ([52.0, 112.0, 206.0], [236.0, 234.0, 226.0]),
    ([52.0, 150.0, 92.0], [234.0, 230.0, 208.0]),
    ([222.0, 176.0, 72.0], [112.0, 40.0, 30.0]),
];

impl PartLook {
    pub fn from_seed(seed: u64, defective: bool) -> Self {
        let kind = Defect::ALL[Random::stream(seed, 1).below(4) as usize];
        Self::with_defect(seed, defective.then_some(kind))
    }

    /// As `from_seed`, with the kind of defect chosen by the caller.
    pub fn with_defect(seed: u64, kind: Option<Defect>) -> Self {
        let mut r = Random::stream(seed, 2);
        let turn = sin_cos(r.next_u64() as u16);
        let scale = r.range(0.985, 1.015);
        let (base, ink) = COLOURS[r.below(4) as usize];
        let tint = [r.range(0.93, 1.07), r.range(0.93, 1.07), r.range(0.93, 1.07)];
        let gloss = r.range(0.6, 1.15);
        let specks = (0..r.below(5))
            .map(|_| {
                let at = place(&mut r, 13.0);
                let shade = if r.chance(0.5) { 40.0 } else { 225.0 };
                Speck {
                    at: [at[0], at[1], r.range(0.07, 0.16)],
                    shade,
                }
            })
            .collect();
        let mut r = Random::stream(seed, 3);
        let count = if r.chance(0.25) { 2 } else { 1 };
        let defects = match kind {
            Some(kind) => (0..count).map(|_| Flaw::draw(kind, &mut r)).collect(),
            None => Vec::new(),
        };
        let base = [base[0] * tint[0], base[1] * tint[1], base[2] * tint[2]];
        PartLook {
            turn,
            scale,
            base,
            ink,
            gloss,
            defects,
            specks,
        }
    }

    /// The look of a part of the world: its own turn, size and kind of defect, the rest from its seed.
    pub fn of(part: &Part) -> Self {
        let mut look = Self::with_defect(part.seed, part.defect);
        let turn = i64::from(part.angle_mdeg).rem_euclid(360_000) * 65_536 / 360_000;
        look.turn = sin_cos(turn as u16);
        look.scale = part.length.as_micrometres().clamp(1_000, 100_000) as f32 / NOMINAL_UM;
        look
    }

    /// What is wrong with the part; `None` for a good one.
    pub fn kind(&self) -> Option<Defect> {
        self.defects.first().map(|d| d.kind)
    }

    /// The label of the shipped classifier that is right for this part.
    pub fn label(&self) -> &'static str {
        self.kind().map_or("good", Defect::label)
    }

    /// Surface of the cap at (x, y) mm in its own frame, defects and all. `mm_per_px` softens edges.
    #[inline]
    pub(super) fn surface(&self, texel: Texel, x: f32, y: f32, mm_per_px: f32) -> Surface {
        let soft = |inside: f32| (inside / mm_per_px + 0.5).clamp(0.0, 1.0);
        let mut s = Surface {
            slope: texel.slope,
            colour: mix3(self.base, self.ink, texel.ink),
            gloss: self.gloss,
            cover: soft(texel.inside),
            class: 0,
        };
        let whole = s.cover;
        for speck in &self.specks {
            let d = length(x - speck.at[0], y - speck.at[1]);
            s.colour = mix3(s.colour, [speck.shade; 3], 0.5 * soft(speck.at[2] - d));
        }
        for defect in &self.defects {
            let [bx, by, br] = defect.bound;
            if (x - bx) * (x - bx) + (y - by) * (y - by) < br * br
                && defect.apply(&mut s, x, y, &soft)
                && whole > 0.5
            {
                s.class = defect.kind.class();
            }
        }
        s
    }
}

/// The surface at one place, ready to be lit.
pub(super) struct Surface {
    pub slope: [f32; 2],
    pub colour: [f32; 3],
    pub gloss: f32,
    /// Share of the pixel that the cap covers.
    pub cover: f32,
    /// Class of the mask: 0 or a `Defect`.
    pub class: u8,
}

pub(super) fn mix3(a: [f32; 3], b: [f32; 3], share: f32) -> [f32; 3] {
    [
        a[0] + (b[0] - a[0]) * share,
        a[1] + (b[1] - a[1]) * share,
        a[2] + (b[2] - a[2]) * share,
    ]
}

/// A place within `radius` of the centre, evenly spread over the area.
fn place(r: &mut Random, radius: f32) -> [f32; 2] {
    let far = radius * r.unit().sqrt();
    let (s, c) = sin_cos(r.next_u64() as u16);
    [far * c, far * s]
}

impl Flaw {
    fn draw(kind: Defect, r: &mut Random) -> Flaw {
        match kind {
            Defect::Scratch => draw_scratch(r),
            Defect::Dent => draw_dent(r),
            Defect::Contamination => draw_contamination(r),
            Defect::Missing => draw_missing(r),
        }
    }

    /// Changes the surface where the defect is; `true` where the mask shows it.
    fn apply(&self, s: &mut Surface, x: f32, y: f32, soft: &impl Fn(f32) -> f32) -> bool {
        match &self.shape {
            Shape::Scratch {
                points,
                width,
                strength,
            } => {
                let d = points
                    .windows(2)
                    .map(|p| segment([x, y], p[0], p[1]))
                    .fold(f32::MAX, f32::min);
                let inside = width / 2.0 - d;
                let share = strength * soft(inside);
                s.colour = mix3(s.colour, [176.0, 178.0, 182.0], share);
                // The groove throws the light elsewhere.
                s.slope[0] += 0.35 * share;
                s.slope[1] -= 0.25 * share;
                inside > 0.0
            }
            Shape::Dent {
                centre,
                axes,
                turn,
                steep,
            } => {
                let (dx, dy) = (x - centre[0], y - centre[1]);
                let (u, v) = (
                    (dx * turn[1] + dy * turn[0]) / axes[0],
                    (dy * turn[1] - dx * turn[0]) / axes[1],
                );
                let q = u * u + v * v;
                if q >= 1.0 {
                    return false;
                }
                // Slope of the bowl -(1 - q)², its depth in units of the axes.
                let k = 4.0 * steep * (1.0 - q);
                let (gu, gv) = (k * u, k * v);
                s.slope[0] += gu * turn[1] - gv * turn[0];
                s.slope[1] += gu * turn[0] + gv * turn[1];
                q < 0.85
            }
            Shape::Contamination {
                drops,
                colour,
                opacity,
            } => {
                let field: f32 = drops
                    .iter()
                    .map(|d| {
                        let q = ((x - d[0]) * (x - d[0]) + (y - d[1]) * (y - d[1])) / (d[2] * d[2]);
                        (1.0 - q).max(0.0)
                    })
                    .sum();
                let share = smooth(0.10, 0.40, field);
                s.colour = mix3(s.colour, *colour, share * opacity);
                s.gloss *= 1.0 - 0.6 * share;
                share > 0.5
            }
            Shape::Missing { bites } => {
                let inside = bites
                    .iter()
                    .map(|b| b[2] - length(x - b[0], y - b[1]))
                    .fold(f32::MIN, f32::max);
                s.cover *= 1.0 - soft(inside);
                // The torn edge shows bare metal.
                if inside < 0.0 {
                    s.colour = mix3(
                        s.colour,
                        [150.0, 152.0, 156.0],
                        0.7 * (1.0 + inside / 0.35).max(0.0),
                    );
                }
                inside > 0.0
            }
        }
    }
}

fn draw_scratch(r: &mut Random) -> Flaw {
    let from = place(r, 11.0);
    let long = r.range(4.0, 13.0);
    let (s, c) = sin_cos(r.next_u64() as u16);
    // Towards the other side rather than off the cap.
    let sign = if from[0] * c + from[1] * s > 0.0 {
        -1.0
    } else {
        1.0
    };
    let bend = r.range(-0.18, 0.18) * long;
    let (dx, dy) = (sign * c, sign * s);
    let mut points = [[0.0; 2]; 7];
    for (k, p) in points.iter_mut().enumerate() {
        let t = k as f32 / 6.0;
        let side = bend * 4.0 * t * (1.0 - t) + r.range(-0.08, 0.08);
        *p = [
            from[0] + dx * long * t - dy * side,
            from[1] + dy * long * t + dx * side,
        ];
    }
    let (width, strength) = (r.range(0.32, 0.85), r.range(0.42, 0.95));
    let bound = [points[3][0], points[3][1], long * 0.5 + bend.abs() + 1.5];
    Flaw {
        kind: Defect::Scratch,
        shape: Shape::Scratch {
            points,
            width,
            strength,
        },
        bound,
    }
}

fn draw_dent(r: &mut Random) -> Flaw {
    let centre = place(r, 8.5);
    let a = r.range(1.8, 4.2);
    let axes = [a, a * r.range(0.6, 1.0)];
    let (s, c) = sin_cos(r.next_u64() as u16);
    let steep = r.range(0.16, 0.42) * if r.chance(0.2) { -1.0 } else { 1.0 };
    let shape = Shape::Dent {
        centre,
        axes,
        turn: [s, c],
        steep,
    };
    Flaw {
        kind: Defect::Dent,
        shape,
        bound: [centre[0], centre[1], a],
    }
}

fn draw_contamination(r: &mut Random) -> Flaw {
    // Oil, rust, grey paste.
    let colour = [[34.0, 28.0, 22.0], [104.0, 62.0, 30.0], [96.0, 100.0, 92.0]][r.below(3) as usize];
    let opacity = r.range(0.55, 0.95);
    let centre = place(r, 10.5);
    let size = r.range(0.8, 2.4);
    let mut drops = [[0.0; 3]; 5];
    for d in &mut drops {
        let off = place(r, size * 1.1);
        *d = [centre[0] + off[0], centre[1] + off[1], size * r.range(0.45, 1.0)];
    }
    let shape = Shape::Contamination {
        drops,
        colour,
        opacity,
    };
    Flaw {
        kind: Defect::Contamination,
        shape,
        bound: [centre[0], centre[1], size * 2.2],
    }
}

fn draw_missing(r: &mut Random) -> Flaw {
    let (s, c) = sin_cos(r.next_u64() as u16);
    let far = r.range(12.6, 14.2);
    let size = r.range(2.0, 4.8);
    let mut bites = [[0.0; 3]; 3];
    for (k, b) in bites.iter_mut().enumerate() {
        let along = (k as f32 - 1.0) * size * r.range(0.35, 0.75);
        let out = far + r.range(-0.6, 0.6);
        *b = [
            c * out - s * along,
            s * out + c * along,
            size * r.range(0.5, 0.85),
        ];
    }
    let bound = [bites[1][0], bites[1][1], size * 2.2 + 1.0];
    Flaw {
        kind: Defect::Missing,
        shape: Shape::Missing { bites },
        bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Length;

    #[test]
    fn a_good_part_has_no_defect_and_a_bad_one_has() {
        for seed in 0..200 {
            assert_eq!(PartLook::from_seed(seed, false).label(), "good");
            assert!(PartLook::from_seed(seed, true).kind().is_some());
        }
    }

    #[test]
    fn every_kind_is_drawn_about_equally_often() {
        let mut counts = [0; 5];
        for seed in 0..2_000 {
            counts[PartLook::from_seed(seed, true)
                .kind()
                .map_or(0, |k| k.class() as usize)] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|n| (420..580).contains(n)), "{counts:?}");
    }

    #[test]
    fn a_part_of_the_world_keeps_its_size_and_turn() {
        let part = Part {
            number: 3,
            seed: 11,
            length: Length::from_micrometres(26_600),
            across: Length::ZERO,
            angle_mdeg: 90_000,
            defect: Some(Defect::Dent),
        };
        let look = PartLook::of(&part);
        assert_eq!(look.label(), "dent");
        assert!(
            (look.scale - 0.95).abs() < 1e-6 && (look.turn.0 - 1.0).abs() < 1e-5 && look.turn.1.abs() < 1e-5
        );
    }

    #[test]
    fn a_defect_changes_nothing_else_about_the_part() {
        let (good, bad) = (PartLook::from_seed(9, false), PartLook::from_seed(9, true));
        assert_eq!(
            (good.turn, good.scale, good.base),
            (bad.turn, bad.scale, bad.base)
        );
    }
}
