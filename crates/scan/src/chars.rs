//! Tables of characters: which are invisible, which look alike, which are two writings of one.

/// The kinds of characters that people do not see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Tag characters and the deprecated language tag (U+E0000 to U+E007F).
    Tag,
    /// The 240 supplementary variation selectors, which can carry a byte each.
    Selector,
    /// An override of the direction of writing (Unicode Annex 9).
    Override,
    /// An embedding or isolate of a direction of writing.
    Embedding,
    /// Zero width: joiners, word joiner, zero-width space, soft hyphen, fillers.
    ZeroWidth,
    /// Invisible, and ordinary where it usually stands: direction marks, the ends of embeddings, selectors for emoji.
    Ordinary,
}

/// What kind of invisible character `c` is; none for a visible one.
///
/// The set is Unicode's `Default_Ignorable_Code_Point` plus the bidirectional controls.
pub(crate) const fn hidden(c: char) -> Option<Hidden> {
    Some(match c {
        '\u{e0000}'..='\u{e007f}' => Hidden::Tag,
        '\u{e0100}'..='\u{e01ef}' => Hidden::Selector,
        '\u{202d}' | '\u{202e}' => Hidden::Override,
        '\u{202a}' | '\u{202b}' | '\u{2066}'..='\u{2068}' => Hidden::Embedding,
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202c}' | '\u{2069}' | '\u{fe00}'..='\u{fe0f}' => Hidden::Ordinary,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => {
            Hidden::ZeroWidth
        }
        '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{3164}' | '\u{feff}' => {
            Hidden::ZeroWidth
        }
        '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => {
            Hidden::ZeroWidth
        }
        '\u{e0080}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}' => Hidden::ZeroWidth,
        _ => return None,
    })
}

/// The ASCII character that a tag character stands for.
pub(crate) fn untag(c: char) -> Option<char> {
    let low = u32::from(c).checked_sub(0xe_0000)?;
    char::from_u32(low).filter(|plain| matches!(plain, ' '..='~'))
}

/// The Latin letter that `c`, of another script or a variant, looks like. `c` is in lower case.
///
/// A compact selection from the Unicode confusables (Technical Standard 39): Cyrillic, Greek, Armenian, Cherokee and
/// Latin letters that serve in practice.
pub(crate) const fn skeleton(c: char) -> Option<&'static str> {
    Some(match c {
        'а' | 'α' | 'ɑ' | 'ᴀ' | 'ạ' | 'ꭺ' => "a",
        'ь' | 'ƅ' | 'β' | 'ʙ' | 'ᏼ' | 'в' => "b",
        'с' | 'ϲ' | 'ᴄ' | 'ⅽ' | 'ꮯ' => "c",
        'ԁ' | 'ɗ' | 'ᴅ' | 'ⅾ' | 'ꭰ' | 'ɖ' => "d",
        'е' | 'ҽ' | 'ε' | 'ɛ' | 'ᴇ' | 'є' | 'ϵ' | 'ꭼ' | 'ə' => "e",
        'ғ' | 'ſ' | 'ƒ' | 'ϝ' | 'ꬵ' => "f",
        'ɡ' | 'ց' | 'ɢ' | 'ƍ' => "g",
        'һ' | 'հ' | 'ʜ' | 'н' | 'ꮋ' => "h",
        'і' | 'ι' | 'ı' | 'ɩ' | 'ӏ' | 'ɪ' | 'ⅰ' | 'ꭵ' | '∣' | '׀' => "i",
        'ј' | 'ϳ' | 'ʝ' | 'ᴊ' | 'ɉ' => "j",
        'к' | 'κ' | 'ᴋ' | 'ĸ' | 'ⲕ' => "k",
        'ⅼ' | 'ʟ' | 'ⳑ' | 'լ' | 'ɫ' => "l",
        'м' | 'ᴍ' | 'ⅿ' | 'ϻ' | 'ⲙ' => "m",
        'п' | 'ո' | 'ռ' | 'η' | 'ɴ' | 'ղ' | 'и' => "n",
        'о' | 'ο' | 'σ' | 'օ' | 'ᴏ' | 'ӧ' | 'ⲟ' | '०' | '০' | '੦' | '૦' | 'ჿ' | 'ө' => "o",
        'р' | 'ρ' | 'ᴘ' | 'ⲣ' | 'ҏ' => "p",
        'ԛ' | 'գ' | 'զ' | 'ҩ' => "q",
        'г' | 'ʀ' | 'ꭇ' | 'ꭈ' | 'я' | 'ᴦ' => "r",
        'ѕ' | 'ƽ' | 'ꜱ' | 'ʂ' => "s",
        'т' | 'τ' | 'ᴛ' | 'ƭ' | 'ⲧ' => "t",
        'υ' | 'ս' | 'ᴜ' | 'ʋ' | 'ц' | 'µ' | 'μ' => "u",
        'ν' | 'ѵ' | 'ᴠ' | 'ⅴ' | 'ט' => "v",
        'ԝ' | 'ѡ' | 'ա' | 'ᴡ' | 'ω' | 'ш' | 'ɯ' => "w",
        'х' | 'χ' | 'ⅹ' | '×' | '᙮' | 'ж' => "x",
        'у' | 'ү' | 'γ' | 'ʏ' | 'ყ' | 'ч' => "y",
        'ᴢ' | 'ꮓ' | 'ʐ' | 'ζ' => "z",
        _ => return None,
    })
}

/// The plain writing of `c`, in lower case: letters with strokes, ligatures, punctuation of other scripts.
pub(crate) const fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'þ' => "th",
        '。' | '｡' | '．' => ".",
        '、' => ",",
        '“' | '”' | '„' | '«' | '»' | '‟' | '「' | '」' | '『' | '』' | '《' | '》' => "\"",
        '‘' | '’' | '‚' | '‹' | '›' | '‛' => "'",
        '‐' | '‑' | '‒' | '–' | '—' | '―' | '−' => "-",
        '【' | '〔' | '〖' => "[",
        '】' | '〕' | '〗' => "]",
        '\u{2028}' | '\u{2029}' | '\u{85}' => " ",
        _ => return None,
    })
}

/// The simplified form of a traditional Chinese character, for those that the packs' phrases use.
pub(crate) fn simplified(c: char) -> Option<char> {
    let at = TRADITIONAL.binary_search_by_key(&c, |(traditional, _)| *traditional).ok()?;
    TRADITIONAL.get(at).map(|(_, simplified)| *simplified)
}

/// Traditional and simplified, in order.
#[rustfmt::skip]
static TRADITIONAL: [(char, char); 111] = [
    ('並', '并'), ('來', '来'), ('個', '个'), ('們', '们'), ('傳', '传'), ('僅', '仅'), ('內', '内'), ('刪', '删'),
    ('則', '则'), ('動', '动'), ('務', '务'), ('員', '员'), ('嚴', '严'), ('圖', '图'), ('執', '执'), ('實', '实'),
    ('審', '审'), ('寫', '写'), ('將', '将'), ('對', '对'), ('導', '导'), ('帳', '账'), ('後', '后'), ('從', '从'),
    ('復', '复'), ('應', '应'), ('戲', '戏'), ('戶', '户'), ('換', '换'), ('據', '据'), ('擺', '摆'), ('數', '数'),
    ('於', '于'), ('會', '会'), ('條', '条'), ('棄', '弃'), ('構', '构'), ('機', '机'), ('檔', '档'), ('欄', '栏'),
    ('權', '权'), ('殺', '杀'), ('沒', '没'), ('準', '准'), ('為', '为'), ('無', '无'), ('現', '现'), ('當', '当'),
    ('發', '发'), ('確', '确'), ('碼', '码'), ('約', '约'), ('級', '级'), ('結', '结'), ('絕', '绝'), ('給', '给'),
    ('統', '统'), ('網', '网'), ('總', '总'), ('脫', '脱'), ('與', '与'), ('蓋', '盖'), ('號', '号'), ('裝', '装'),
    ('製', '制'), ('複', '复'), ('覆', '复'), ('規', '规'), ('視', '视'), ('訊', '讯'), ('記', '记'), ('設', '设'),
    ('許', '许'), ('詞', '词'), ('試', '试'), ('話', '话'), ('該', '该'), ('認', '认'), ('語', '语'), ('誡', '诫'),
    ('說', '说'), ('説', '说'), ('調', '调'), ('請', '请'), ('譯', '译'), ('護', '护'), ('變', '变'), ('讓', '让'),
    ('賬', '账'), ('輸', '输'), ('轉', '转'), ('這', '这'), ('連', '连'), ('進', '进'), ('遊', '游'), ('運', '运'),
    ('過', '过'), ('違', '违'), ('遺', '遗'), ('還', '还'), ('郵', '邮'), ('醫', '医'), ('鏈', '链'), ('鑰', '钥'),
    ('閉', '闭'), ('開', '开'), ('關', '关'), ('隨', '随'), ('隱', '隐'), ('須', '须'), ('顯', '显'),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TRADITIONAL.is_sorted_by(|one, next| one.0 < next.0));
        assert_eq!(simplified('無'), Some('无'));
        assert_eq!(simplified('无'), None);
    }

    #[test]
    fn tags_stand_for_ascii() {
        assert_eq!(untag('\u{e0049}'), Some('I'));
        assert_eq!(untag('\u{e007f}'), None);
        assert_eq!(untag('a'), None);
    }

    #[test]
    fn every_hidden_character_is_not_ascii() {
        assert!(('\0'..='\u{7f}').all(|c| hidden(c).is_none()));
        assert_eq!(hidden('\u{200b}'), Some(Hidden::ZeroWidth));
        assert_eq!(hidden('\u{202e}'), Some(Hidden::Override));
    }
}
