//! Noise is told from signals by how often a line changes.

/// Edges in [`WINDOW_NS`] that no sensor makes: contacts bounce some twenty times, an encoder on
/// lines is limited to 2,000 edges a second. Five times that is a broken cable or a motor's hum.
const EDGES_MAX: u32 = 200;
const WINDOW_NS: u64 = 20_000_000;

/// Watches one line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    began: u64,
    edges: u32,
}

impl Flood {
    /// Takes the kernel's stamp of an edge. `true`: the line is flooding. Reckoned on stamps, so
    /// that edges which merely waited for us are no flood.
    pub fn edge(&mut self, stamp: u64) -> bool {
        if stamp.saturating_sub(self.began) > WINDOW_NS {
            *self = Flood {
                began: stamp,
                edges: 0,
            };
        }
        self.edges += 1;
        self.edges > EDGES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floods(edges_per_s: u64, edges: u64) -> bool {
        let mut flood = Flood::default();
        (0..edges).any(|n| flood.edge(5_000_000_000 + n * 1_000_000_000 / edges_per_s))
    }

    #[test]
    fn an_encoder_at_its_limit_is_no_flood_and_noise_is() {
        assert!(!floods(2_000, 100_000));
        assert!(!floods(9_000, 100_000));
        assert!(floods(11_000, 1_000));
        // A bouncing contact is fast, but soon over.
        assert!(!floods(100_000, 50));
    }
}
