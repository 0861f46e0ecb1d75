//! What of a picture has to be sent again.

use std::ops::Range;

/// A rectangle of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    pub x: Range<usize>,
    pub y: Range<usize>,
}

/// To open one more window on the controller takes eleven bytes and a dozen calls to the kernel: about as
/// long as so many pixels.
const WINDOW: usize = 256;

impl Area {
    fn pixels(&self) -> usize {
        self.x.len() * self.y.len()
    }

    fn with(&self, other: &Area) -> Area {
        let join = |a: &Range<usize>, b: &Range<usize>| Range {
            start: a.start.min(b.start),
            end: a.end.max(b.end),
        };
        Area {
            x: join(&self.x, &other.x),
            y: join(&self.y, &other.y),
        }
    }
}

/// The areas in which two pictures of the same size differ, from the top down, none over another.
/// Rows whose changes lie near to each other are sent together.
pub fn changed<T: PartialEq>(old: &[T], new: &[T], width: usize) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    if width == 0 {
        return areas;
    }
    for (y, (old, new)) in old.chunks_exact(width).zip(new.chunks_exact(width)).enumerate() {
        let Some(first) = (0..width).find(|x| old[*x] != new[*x]) else {
            continue;
        };
        let last = (first..width).rfind(|x| old[*x] != new[*x]).unwrap_or(first);
        let row = Area {
            x: first..last + 1,
            y: y..y + 1,
        };
        match areas.last_mut() {
            Some(area) if area.with(&row).pixels() <= area.pixels() + row.pixels() + WINDOW => {
                *area = area.with(&row);
            }
            _ => areas.push(row),
        }
    }
    areas
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_near_goes_together_and_what_is_far_does_not() {
        let old = vec![0; 200 * 100];
        let mut new = old.clone();
        assert!(changed(&old, &new, 200).is_empty());
        new[5 * 200 + 10] = 1;
        new[7 * 200 + 20] = 1;
        assert_eq!(changed(&old, &new, 200), [Area { x: 10..21, y: 5..8 }]);
        new[90 * 200 + 199] = 1;
        let areas = changed(&old, &new, 200);
        assert_eq!(areas.len(), 2);
        assert_eq!(
            areas[1],
            Area {
                x: 199..200,
                y: 90..91
            }
        );
    }

    proptest! {
        #[test]
        fn sending_the_areas_makes_the_new_picture(
            old in prop::collection::vec(0..3_u8, 32 * 24),
            changes in prop::collection::vec((0..32_usize, 0..24_usize, 0..3_u8), 0..20),
        ) {
            let mut new = old.clone();
            for (x, y, value) in changes {
                new[y * 32 + x] = value;
            }
            let mut sent = old.clone();
            for area in changed(&old, &new, 32) {
                for y in area.y {
                    for x in area.x.clone() {
                        sent[y * 32 + x] = new[y * 32 + x];
                    }
                }
            }
            prop_assert_eq!(sent, new);
        }
    }
}
