//! Rules of a recipe and the judgement by them.

/// The parsed rules of a recipe.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub pass_if: Vec<Rule>,
    pub reject_if: Vec<Rule>,
}

/// One comparison, such as `scratch >= 0.60` or `defect.area_mm2 > 0.8`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// As written.
    pub text: String,
    pub quantity: Quantity,
    pub comparison: Comparison,
    pub limit: f32,
}

/// What a rule measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Score of a classifier label, by index into the model's labels.
    Score(u8),
    /// `LABEL.area_mm2` and so on of one mask class (by index); `None`, written `defect`, means all together.
    Defect { class: Option<u8>, measure: Measure },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    AreaMm2,
    LengthMm,
    Count,
    Peak,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}
