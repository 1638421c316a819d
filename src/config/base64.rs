//! Base64 of 32-byte keys (RFC 4648, section 4), one accepted spelling for each key.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// 44 characters for 32 bytes.
pub fn encode_key(key: &[u8; 32]) -> String {
    let mut text = String::with_capacity(44);
    for chunk in key.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            if position <= chunk.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * position) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// The key that `text` spells; `None` unless it is exactly what [`encode_key`] gives.
pub fn decode_key(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43)?;
    let mut key = [0; 32];
    let mut filled = 0;
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = (0u32..).zip(ALPHABET).find(|(_, letter)| **letter == digit)?.0;
        bits = (bits << 6 | value) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            *key.get_mut(filled)? = u8::try_from(bits >> count & 0xff).ok()?;
            filled += 1;
        }
    }
    (encode_key(&key) == text).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeroes_and_ones_have_their_known_spelling() {
        assert_eq!(encode_key(&[0; 32]), format!("{}=", "A".repeat(43)));
        assert_eq!(encode_key(&[255; 32]), format!("{}8=", "/".repeat(42)));
    }

    #[test]
    fn anything_but_the_one_spelling_is_refused() {
        let good = encode_key(&[7; 32]);
        assert_eq!(decode_key(&good), Some([7; 32]));
        for bad in [
            String::new(),
            good.replace('=', ""),
            format!("{good} "),
            format!("{}B=", "A".repeat(42)),
            "A".repeat(44),
            "é".repeat(22),
        ] {
            assert_eq!(decode_key(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_key_survives(key in any::<[u8; 32]>()) {
            prop_assert_eq!(decode_key(&encode_key(&key)), Some(key));
        }
    }
}
