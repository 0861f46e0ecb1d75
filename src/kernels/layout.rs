//! Where the values of a tensor of bytes lie.

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

    /// Bytes from the first value to behind the last.
    pub fn span(&self) -> usize {
        if self.values() == 0 {
            return 0;
        }
        (self.height - 1) * self.row + (self.width - 1) * self.pixel + self.channels
    }

    pub fn values(&self) -> usize {
        self.height * self.width * self.channels
    }

    pub fn is_dense(&self) -> bool {
        self.pixel == self.channels && self.row == self.width * self.channels
    }

    pub fn at(&self, y: usize, x: usize) -> usize {
        y * self.row + x * self.pixel
    }

    /// The channels of pixel (y, x).
    pub fn pixel<'a>(&self, bytes: &'a [u8], y: usize, x: usize) -> &'a [u8] {
        &bytes[self.at(y, x)..][..self.channels]
    }

    pub fn pixel_mut<'a>(&self, bytes: &'a mut [u8], y: usize, x: usize) -> &'a mut [u8] {
        &mut bytes[self.at(y, x)..][..self.channels]
    }
}
