//! The part of TensorBoard's event.proto and summary.proto that scalars and pictures need, as prost messages.

/// One record of an event file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Where it stands on the horizontal axis.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// The format's version; in the first record alone.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// What was measured.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
}

/// Values of one step.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    /// The values, each under a tag of its own.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// One value: a number or a picture.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    /// What it is called; `/` groups.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
    /// A picture.
    #[prost(message, optional, tag = "4")]
    pub image: Option<Image>,
}

/// A picture.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Image {
    /// Rows.
    #[prost(int32, tag = "1")]
    pub height: i32,
    /// Columns.
    #[prost(int32, tag = "2")]
    pub width: i32,
    /// 3 is RGB.
    #[prost(int32, tag = "3")]
    pub colorspace: i32,
    /// A PNG file's bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub encoded_image_string: Vec<u8>,
}
