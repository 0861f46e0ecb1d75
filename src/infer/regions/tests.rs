use super::*;
use proptest::prelude::*;

const UM: (f64, f64) = (200.0, 500.0);

fn place(side: usize) -> Place {
    let (width, height) = (2 * side as u32, 5 * side as u32);
    Place {
        x: 100,
        y: 50,
        width,
        height,
        picture: (2000, 2000),
        um_per_mask_px: UM,
    }
}

fn measure(side: usize, labels: usize, probabilities: &[f32]) -> Defects {
    Regions::new(side, labels, 0.5).measure(probabilities, &place(side))
}

/// Probabilities of one class from a drawing, `#` marked.
fn drawn(rows: &[&str]) -> (usize, Vec<f32>) {
    (
        rows.len(),
        rows.iter()
            .flat_map(|r| r.chars())
            .map(|c| if c == '#' { 0.9 } else { 0.1 })
            .collect(),
    )
}

/// The specification: flood fill, and the distance between all pairs of corners of all pixels.
/// Gives (class, pixels, length in mm, bounding box in mask pixels) of each region.
type Naive = (u8, u32, f32, (usize, usize, usize, usize));
fn naive(side: usize, map: &[u8]) -> Vec<Naive> {
    let mut seen = vec![false; map.len()];
    let mut found = Vec::new();
    for start in 0..map.len() {
        if map[start] == 0 || seen[start] {
            continue;
        }
        seen[start] = true;
        let (mut todo, mut pixels) = (vec![start], Vec::new());
        while let Some(at) = todo.pop() {
            pixels.push((at % side, at / side));
            for dy in -1..=1 {
                for dx in -1..=1 {
                    let (x, y) = ((at % side) as i64 + dx, (at / side) as i64 + dy);
                    if (0..side as i64).contains(&x) && (0..side as i64).contains(&y) {
                        let near = (y * side as i64 + x) as usize;
                        if !seen[near] && map[near] == map[start] {
                            seen[near] = true;
                            todo.push(near);
                        }
                    }
                }
            }
        }
        let corners: Vec<(f64, f64)> = pixels
            .iter()
            .flat_map(|&(x, y)| [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)])
            .map(|(x, y)| (x as f64 * UM.0, y as f64 * UM.1))
            .collect();
        let mut longest = 0.0f64;
        for a in &corners {
            for b in &corners {
                longest = longest.max((a.0 - b.0).hypot(a.1 - b.1));
            }
        }
        let (xs, ys) = (pixels.iter().map(|p| p.0), pixels.iter().map(|p| p.1));
        let corners = (
            xs.clone().min().unwrap(),
            ys.clone().min().unwrap(),
            xs.max().unwrap(),
            ys.max().unwrap(),
        );
        found.push((
            map[start] - 1,
            pixels.len() as u32,
            (longest / 1000.0) as f32,
            corners,
        ));
    }
    found
}

fn check(side: usize, labels: usize, map: &[u8]) {
    let mut probabilities = vec![0.1; labels * map.len()];
    for (i, class) in map.iter().enumerate().filter(|(_, c)| **c > 0) {
        probabilities[(usize::from(*class) - 1) * map.len() + i] = 0.8;
    }
    let mut regions = Regions::new(side, labels, 0.5);
    let got = regions.measure(&probabilities, &place(side));
    assert_eq!(regions.map(), map);
    let wanted = naive(side, map);
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
    for (label, class) in got.classes.iter().enumerate() {
        let of_class: Vec<&Naive> = wanted.iter().filter(|w| usize::from(w.0) == label).collect();
        let pixels: u32 = of_class.iter().map(|w| w.1).sum();
        assert_eq!(class.count, of_class.len() as u32);
        assert!(
            near(class.area_mm2, pixels as f32 * 0.1),
            "{} for {pixels} pixels",
            class.area_mm2
        );
        let longest = of_class.iter().map(|w| w.2).fold(0.0, f32::max);
        assert!(
            near(class.length_mm, longest),
            "{} for {longest}",
            class.length_mm
        );
        assert_eq!(class.peak, if pixels > 0 { 0.8 } else { 0.1 });
    }
    assert_eq!(got.regions.len(), wanted.len().min(got.regions.capacity()));
    assert!(
        got.regions.windows(2).all(|w| w[0].area_mm2 >= w[1].area_mm2),
        "largest first"
    );
    for region in &got.regions {
        let same = wanted.iter().any(|(class, pixels, length, (x0, y0, x1, y1))| {
            region.class == *class
                && near(region.area_mm2, *pixels as f32 * 0.1)
                && near(region.length_mm, *length)
                && usize::from(region.x) == 100 + 2 * x0
                && usize::from(region.y) == 50 + 5 * y0
                && usize::from(region.width) == 2 * (x1 + 1 - x0)
                && usize::from(region.height) == 5 * (y1 + 1 - y0)
        });
        assert!(same, "{region:?} is none of {wanted:?}");
    }
    let smallest = got.regions.last().map_or(0.0, |r| r.area_mm2);
    let larger = wanted
        .iter()
        .filter(|w| w.1 as f32 * 0.1 > smallest + 1e-4)
        .count();
    assert!(larger <= got.regions.len(), "a larger region was left out");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn regions_are_those_of_a_flood_fill(
        side in 1usize..24,
        labels in 1usize..4,
        density in 0u32..=100,
        seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32
        };
        let map: Vec<u8> = (0..side * side)
            .map(|_| if next() % 100 < density { 1 + (next() % labels as u32) as u8 } else { 0 })
            .collect();
        check(side, labels, &map);
    }
}

#[test]
fn noise_everywhere_fits_into_the_buffers() {
    let side = 64;
    for labels in [1, 2] {
        let map: Vec<u8> = (0..side * side)
            .map(|i| ((i + i / side) % 2 * (1 + i % labels)) as u8)
            .collect();
        let mut regions = Regions::new(side, labels, 0.5);
        let before = regions.runs.capacity();
        let mut probabilities = vec![0.0; labels * map.len()];
        for (i, class) in map.iter().enumerate().filter(|(_, c)| **c > 0) {
            probabilities[(usize::from(*class) - 1) * map.len() + i] = 0.8;
        }
        regions.measure(&probabilities, &place(side));
        assert_eq!(regions.runs.capacity(), before);
    }
}

#[test]
fn an_empty_mask_measures_zero() {
    let defects = measure(8, 1, &[0.2; 64]);
    assert_eq!(defects.regions.len(), 0);
    assert_eq!(
        defects.classes[..],
        [ClassMeasure {
            peak: 0.2,
            ..Default::default()
        }]
    );
}

#[test]
fn a_full_mask_is_one_region_as_long_as_its_diagonal() {
    let defects = measure(10, 1, &[0.9; 100]);
    // 2 mm wide, 5 mm high.
    assert_eq!(defects.regions.len(), 1);
    assert!((defects.regions[0].area_mm2 - 10.0).abs() < 1e-5);
    assert!((defects.regions[0].length_mm - 29f32.sqrt()).abs() < 1e-5);
}

#[test]
fn corners_connect_and_a_hook_joins_late() {
    let (side, p) = drawn(&["#...#", ".#..#", "..#.#", "...##", "....."]);
    let defects = measure(side, 1, &p);
    assert_eq!(defects.classes[0].count, 1);
    let (side, p) = drawn(&["#.#.#", "#.#.#", "#.#.#", "###.#", "....."]);
    assert_eq!(measure(side, 1, &p).classes[0].count, 2);
}

#[test]
fn the_threshold_itself_counts_as_defect() {
    assert_eq!(measure(1, 1, &[0.5]).classes[0].count, 1);
    assert_eq!(measure(1, 1, &[0.499_999]).classes[0].count, 0);
}

#[test]
fn the_background_channel_wins_where_it_is_largest() {
    // One pixel each: background 0.6, label 0.4; then 0.3 and 0.7.
    let mut regions = Regions::new(1, 1, 0.3);
    assert_eq!(regions.measure(&[0.6, 0.4], &place(1)).classes[0].count, 0);
    assert_eq!(regions.measure(&[0.3, 0.7], &place(1)).classes[0].count, 1);
}

#[test]
fn regions_outside_the_picture_are_clamped_to_it() {
    let place = Place {
        x: -8,
        y: 0,
        width: 16,
        height: 16,
        picture: (4, 16),
        um_per_mask_px: (100.0, 100.0),
    };
    let defects = Regions::new(16, 1, 0.5).measure(&[0.9; 256], &place);
    let region = defects.regions[0];
    assert_eq!((region.x, region.y, region.width, region.height), (0, 0, 4, 16));
}
