//! Files that protos import everywhere and few have at hand. Of those that define options nothing is
//! needed; of those that define messages, the messages.

/// Where the files are that only define options.
const FOR_OPTIONS: [&str; 9] = [
    "google/api/",
    "buf/validate/",
    "validate/",
    "protoc-gen-openapiv2/",
    "protoc-gen-swagger/",
    "gogoproto/",
    "github.com/gogo/protobuf/gogoproto/",
    "cosmos_proto/",
    "amino/",
];

/// Whether `import` may be missing: it defines options.
pub(super) fn is_for_options(import: &str) -> bool {
    let messages = source(import).is_some();
    !messages && FOR_OPTIONS.iter().any(|folder| import.starts_with(folder))
}

/// Whether `import` need not be in the user's folders.
pub(super) fn is_known(import: &str) -> bool {
    import.starts_with("google/protobuf/") || is_for_options(import) || source(import).is_some()
}

/// The text of a file that comes along.
pub(super) fn source(import: &str) -> Option<&'static str> {
    Some(match import {
        "google/rpc/status.proto" => STATUS,
        "google/api/httpbody.proto" => HTTP_BODY,
        "google/longrunning/operations.proto" => OPERATIONS,
        "google/type/money.proto" => MONEY,
        "google/type/date.proto" => DATE,
        "google/type/timeofday.proto" => TIME_OF_DAY,
        "google/type/dayofweek.proto" => DAY_OF_WEEK,
        "google/type/month.proto" => MONTH,
        "google/type/latlng.proto" => LAT_LNG,
        "google/type/color.proto" => COLOR,
        "google/type/decimal.proto" => DECIMAL,
        "google/type/fraction.proto" => FRACTION,
        "google/type/interval.proto" => INTERVAL,
        "google/type/expr.proto" => EXPR,
        "google/type/localized_text.proto" => LOCALIZED_TEXT,
        "google/type/phone_number.proto" => PHONE_NUMBER,
        "google/type/postal_address.proto" => POSTAL_ADDRESS,
        _ => return None,
    })
}

const STATUS: &str = r#"syntax = "proto3"; package google.rpc; import "google/protobuf/any.proto";
message Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }"#;

const HTTP_BODY: &str = r#"syntax = "proto3"; package google.api; import "google/protobuf/any.proto";
message HttpBody { string content_type = 1; bytes data = 2; repeated google.protobuf.Any extensions = 3; }"#;

const OPERATIONS: &str = r#"syntax = "proto3"; package google.longrunning;
import "google/protobuf/any.proto"; import "google/rpc/status.proto";
message Operation { string name = 1; google.protobuf.Any metadata = 2; bool done = 3;
  oneof result { google.rpc.Status error = 4; google.protobuf.Any response = 5; } }
message OperationInfo { string response_type = 1; string metadata_type = 2; }"#;

const MONEY: &str = r#"syntax = "proto3"; package google.type;
message Money { string currency_code = 1; int64 units = 2; int32 nanos = 3; }"#;

const DATE: &str = r#"syntax = "proto3"; package google.type;
message Date { int32 year = 1; int32 month = 2; int32 day = 3; }"#;

const TIME_OF_DAY: &str = r#"syntax = "proto3"; package google.type;
message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }"#;

const DAY_OF_WEEK: &str = r#"syntax = "proto3"; package google.type;
enum DayOfWeek { DAY_OF_WEEK_UNSPECIFIED = 0; MONDAY = 1; TUESDAY = 2; WEDNESDAY = 3; THURSDAY = 4;
  FRIDAY = 5; SATURDAY = 6; SUNDAY = 7; }"#;

const MONTH: &str = r#"syntax = "proto3"; package google.type;
enum Month { MONTH_UNSPECIFIED = 0; JANUARY = 1; FEBRUARY = 2; MARCH = 3; APRIL = 4; MAY = 5; JUNE = 6;
  JULY = 7; AUGUST = 8; SEPTEMBER = 9; OCTOBER = 10; NOVEMBER = 11; DECEMBER = 12; }"#;

const LAT_LNG: &str = r#"syntax = "proto3"; package google.type;
message LatLng { double latitude = 1; double longitude = 2; }"#;

const COLOR: &str = r#"syntax = "proto3"; package google.type; import "google/protobuf/wrappers.proto";
message Color { float red = 1; float green = 2; float blue = 3; google.protobuf.FloatValue alpha = 4; }"#;

const DECIMAL: &str =
    r#"syntax = "proto3"; package google.type; message Decimal { string value = 1; }"#;

const FRACTION: &str = r#"syntax = "proto3"; package google.type;
message Fraction { int64 numerator = 1; int64 denominator = 2; }"#;

const INTERVAL: &str = r#"syntax = "proto3"; package google.type; import "google/protobuf/timestamp.proto";
message Interval { google.protobuf.Timestamp start_time = 1; google.protobuf.Timestamp end_time = 2; }"#;

const EXPR: &str = r#"syntax = "proto3"; package google.type;
message Expr { string expression = 1; string title = 2; string description = 3; string location = 4; }"#;

const LOCALIZED_TEXT: &str = r#"syntax = "proto3"; package google.type;
message LocalizedText { string text = 1; string language_code = 2; }"#;

const PHONE_NUMBER: &str = r#"syntax = "proto3"; package google.type;
message PhoneNumber { message ShortCode { string region_code = 1; string number = 2; }
  oneof kind { string e164_number = 1; ShortCode short_code = 2; } string extension = 3; }"#;

const POSTAL_ADDRESS: &str = r#"syntax = "proto3"; package google.type;
message PostalAddress { int32 revision = 1; string region_code = 2; string language_code = 3;
  string postal_code = 4; string sorting_code = 5; string administrative_area = 6; string locality = 7;
  string sublocality = 8; repeated string address_lines = 9; repeated string recipients = 10;
  string organization = 11; }"#;
