//! Pixels of several kinds of displays.

use super::*;

fn bits(offset: u32, length: u32) -> Bits {
    Bits {
        offset,
        length,
        msb_right: 0,
    }
}

pub fn layout(width: u32, height: u32, bits_per_pixel: u32, rgb: [(u32, u32); 3]) -> Layout {
    let [red, green, blue] = rgb.map(|(offset, length)| bits(offset, length));
    Layout {
        name: "test".into(),
        width,
        height,
        line_length: width * bits_per_pixel / 8,
        bits_per_pixel,
        red,
        green,
        blue,
        transparency: bits(0, 0),
        start: 0,
    }
}

pub const XRGB: [(u32, u32); 3] = [(16, 8), (8, 8), (0, 8)];
const BGR: [(u32, u32); 3] = [(0, 8), (8, 8), (16, 8)];
const RGB565: [(u32, u32); 3] = [(11, 5), (5, 6), (0, 5)];

/// Numbers of the pixels of a row.
fn row(layout: &Layout, out: &[u8], row: usize) -> Vec<u32> {
    let start = row * layout.line_length as usize;
    let end = start + layout.width as usize * layout.bytes();
    let pixel = |bytes: &[u8]| {
        let mut whole = [0; 4];
        whole[..bytes.len()].copy_from_slice(bytes);
        u32::from_le_bytes(whole)
    };
    out[start..end].chunks(layout.bytes()).map(pixel).collect()
}

fn packed(layout: &Layout, rgb: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut out = vec![0xaa; 3];
    pack(layout, rgb, width, height, &mut out);
    out
}

#[test]
fn red_and_blue_go_where_the_display_wants_them() {
    let picture = [255, 0, 0, 1, 2, 3];
    let shown = |layout: &Layout| row(layout, &packed(layout, &picture, 2, 1), 0);
    assert_eq!(shown(&layout(2, 1, 32, XRGB)), [0xff_0000, 0x01_0203]);
    assert_eq!(shown(&layout(2, 1, 32, BGR)), [0x00_00ff, 0x03_0201]);
    assert_eq!(shown(&layout(2, 1, 24, XRGB)), [0xff_0000, 0x01_0203]);
    assert_eq!(shown(&layout(2, 1, 24, BGR)), [0x00_00ff, 0x03_0201]);
    assert_eq!(shown(&layout(2, 1, 16, RGB565))[0], 0xf800);
    let deep = [(20, 10), (10, 10), (0, 10)];
    assert_eq!(shown(&layout(2, 1, 32, deep))[0], 0x3ff << 20);
}

#[test]
fn white_is_all_ones_and_colours_are_rounded() {
    let small = layout(1, 1, 16, RGB565);
    assert_eq!(small.pixel([255; 3]), 0xffff);
    assert_eq!(small.pixel([4, 2, 4]), 0x0000);
    assert_eq!(small.pixel([5, 3, 5]), 1 << 11 | 1 << 5 | 1);
    for grey in 0..=255u8 {
        let red = small.pixel([grey, 0, 0]) >> 11;
        let exact = f64::from(grey) * 31.0 / 255.0;
        assert!((f64::from(red) - exact).abs() <= 0.5, "{grey}");
    }
}

#[test]
fn pixels_are_opaque_where_the_display_knows_the_difference() {
    let mut argb = layout(1, 1, 32, XRGB);
    argb.transparency = bits(24, 8);
    assert_eq!(argb.pixel([1, 2, 3]), 0xff01_0203);
    // The margin, too.
    assert_eq!(row(&argb, &packed(&argb, &[], 0, 0), 0), [0]);
    let mut wide = argb.clone();
    wide.width = 3;
    wide.line_length = 12;
    assert_eq!(
        row(&wide, &packed(&wide, &[1, 2, 3], 1, 1), 0),
        [0xff00_0000, 0xff01_0203, 0xff00_0000]
    );
    let mut short = layout(1, 1, 16, [(10, 5), (5, 5), (0, 5)]);
    short.transparency = bits(15, 1);
    assert_eq!(short.pixel([0; 3]), 0x8000);
}

#[test]
fn rows_begin_where_the_line_length_says() {
    let mut padded = layout(2, 2, 32, XRGB);
    padded.line_length = 20;
    let out = packed(&padded, &[1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4], 2, 2);
    assert_eq!(out.len(), 20 + 8);
    assert_eq!(row(&padded, &out, 0), [0x01_0101, 0x02_0202]);
    assert_eq!(row(&padded, &out, 1), [0x03_0303, 0x04_0404]);
    assert_eq!(out[8..20], [0; 12]);
}

#[test]
fn a_small_picture_is_enlarged_and_centred_and_a_large_one_cut() {
    let wide = layout(7, 2, 32, XRGB);
    let out = packed(&wide, &[1, 1, 1, 2, 2, 2], 2, 1);
    let (one, two) = (0x01_0101, 0x02_0202);
    assert_eq!(row(&wide, &out, 0), [0, one, one, two, two, 0, 0]);
    assert_eq!(row(&wide, &out, 1), [0, one, one, two, two, 0, 0]);
    let tiny = layout(1, 1, 32, XRGB);
    let out = packed(&tiny, &[1, 1, 1, 2, 2, 2, 3, 3, 3], 3, 1);
    assert_eq!(row(&tiny, &out, 0), [two]);
}

#[test]
fn what_cannot_be_drawn_on_is_said_in_words() {
    let variable = Variable {
        xres: 320,
        yres: 240,
        bits_per_pixel: 16,
        red: bits(11, 5),
        green: bits(5, 6),
        blue: bits(0, 5),
        xoffset: 1,
        yoffset: 2,
        ..Variable::default()
    };
    let fixed = Fixed {
        id: *b"fb_ili9341\0\0\0\0\0\0",
        visual: FB_VISUAL_TRUECOLOR,
        line_length: 640,
        ..Fixed::default()
    };
    let good = layout_of(&variable, &fixed).unwrap();
    assert_eq!((good.name.as_str(), good.start), ("fb_ili9341", 1_282));
    let said = |variable: Variable, fixed: Fixed| layout_of(&variable, &fixed).unwrap_err();
    let palette = Variable {
        bits_per_pixel: 8,
        ..variable
    };
    assert!(said(palette, fixed).contains("8 bits per pixel"));
    assert!(said(variable, Fixed { visual: 3, ..fixed }).contains("not plain colours"));
    assert!(
        said(
            variable,
            Fixed {
                line_length: 639,
                ..fixed
            }
        )
        .contains("639 bytes")
    );
    assert!(
        said(
            Variable {
                red: bits(12, 5),
                ..variable
            },
            fixed
        )
        .contains("red, green and blue")
    );
    assert!(said(Variable { xres: 0, ..variable }, fixed).contains("0 × 240"));
}

#[test]
fn the_kernels_structures_have_the_kernels_size() {
    assert_eq!(size_of::<Variable>(), 160);
    assert_eq!(
        size_of::<Fixed>(),
        if cfg!(target_pointer_width = "64") { 80 } else { 68 }
    );
}

#[test]
fn what_is_no_framebuffer_is_an_error() {
    let said = |path: &str| Framebuffer::open(Path::new(path)).unwrap_err().to_string();
    assert!(said("/dev/null").contains("does not answer as a framebuffer"));
    assert!(said("/dev/no-such-display").contains("take `framebuffer` out"));
    assert!(describe(Path::new("/dev/null")).is_err());
    assert!(Console::silence(Path::new("/dev/no-such-console")).is_err());
}
