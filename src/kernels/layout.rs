//! Where the values of a tensor of bytes lie.

use super::check::{Misfit, ensure};

/// Value (y, x, c) stands at `y * row + x * pixel + c` of its slice. Part of a wider tensor (some
/// channels of a concatenation, every second pixel of a picture) has larger steps than it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// Bytes from a pixel to the next one to the right.
    pub pixel: usize,
    /// Bytes from a row to the next one below.
    pub row: usize,
}

impl Layout {
    /// Without gaps.
    pub fn dense(height: usize, width: usize, channels: usize) -> Layout {
        Layout {
            height,
            width,
            channels,
            pixel: channels,
            row: width * channels,
        }
    }

    /// That each value has a place of its own, and that all places can be counted.
    pub fn check(&self) -> Result<(), Misfit> {
        const LARGE: &str = "a tensor is too large";
        let values = self.height.checked_mul(self.width);
        let values = values.and_then(|pixels| pixels.checked_mul(self.channels));
        ensure(values.is_some(), LARGE)?;
        if self.height == 0 || self.width == 0 {
            return Ok(());
        }
        let row = (self.width - 1).checked_mul(self.pixel);
        let row = row.and_then(|row| row.checked_add(self.channels));
        let rows = (self.height - 1).checked_mul(self.row);
        let span = row.zip(rows).and_then(|(row, rows)| row.checked_add(rows));
        ensure(span.is_some_and(|span| span <= isize::MAX as usize), LARGE)?;
        ensure(
            self.width == 1 || self.pixel >= self.channels,
            "the pixels of a tensor overlap",
        )?;
        ensure(
            self.height == 1 || row.is_some_and(|row| self.row >= row),
            "the rows of a tensor overlap",
        )
    }

    /// Bytes from the first pixel to behind the last; pixels without channels have places too.
    pub fn span(&self) -> usize {
        if self.height == 0 || self.width == 0 {
            return 0;
        }
        (self.height - 1) * self.row + (self.width - 1) * self.pixel + self.channels
    }

    pub fn values(&self) -> usize {
        self.height * self.width * self.channels
    }

    #[inline(always)]
    pub fn at(&self, y: usize, x: usize) -> usize {
        y * self.row + x * self.pixel
    }

    /// The channels of pixel (y, x).
    #[inline(always)]
    pub fn pixel<'a>(&self, bytes: &'a [u8], y: usize, x: usize) -> &'a [u8] {
        &bytes[self.at(y, x)..][..self.channels]
    }

    #[inline(always)]
    pub fn pixel_mut<'a>(&self, bytes: &'a mut [u8], y: usize, x: usize) -> &'a mut [u8] {
        &mut bytes[self.at(y, x)..][..self.channels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_has_a_place_for_each_value() {
        let dense = Layout::dense(3, 4, 5);
        let huge = usize::MAX - 5;
        for (layout, good) in [
            (dense, true),
            (Layout { pixel: 4, ..dense }, false),
            (Layout { row: 19, ..dense }, false),
            (
                Layout {
                    row: 40,
                    pixel: 8,
                    ..dense
                },
                true,
            ),
            (Layout { row: huge, ..dense }, false),
            (
                Layout {
                    pixel: huge,
                    row: huge,
                    ..dense
                },
                false,
            ),
            (
                Layout {
                    height: huge,
                    ..dense
                },
                false,
            ),
            (
                Layout {
                    height: huge,
                    channels: 0,
                    ..dense
                },
                false,
            ),
            (
                Layout {
                    height: 1,
                    row: 0,
                    ..dense
                },
                true,
            ),
            (
                Layout {
                    height: 0,
                    row: 0,
                    pixel: 0,
                    ..dense
                },
                true,
            ),
        ] {
            assert_eq!(layout.check().is_ok(), good, "{layout:?}");
        }
    }
}
