"""The locales of Facebook, their fallbacks, and their language codes in Django."""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable, Iterator
from typing import Protocol


class FacebookLocale(enum.Enum):
    """Locales of Meta's list ("Localization", facebook.com/translations; state of 2026)."""

    af_ZA = "af_ZA"
    ak_GH = "ak_GH"
    am_ET = "am_ET"
    ar_AR = "ar_AR"
    as_IN = "as_IN"
    ay_BO = "ay_BO"
    az_AZ = "az_AZ"
    be_BY = "be_BY"
    bg_BG = "bg_BG"
    bn_IN = "bn_IN"
    bp_IN = "bp_IN"
    br_FR = "br_FR"
    bs_BA = "bs_BA"
    ca_ES = "ca_ES"
    cb_IQ = "cb_IQ"
    ck_US = "ck_US"
    co_FR = "co_FR"
    cs_CZ = "cs_CZ"
    cx_PH = "cx_PH"
    cy_GB = "cy_GB"
    da_DK = "da_DK"
    de_DE = "de_DE"
    el_GR = "el_GR"
    en_GB = "en_GB"
    en_IN = "en_IN"
    en_OP = "en_OP"
    en_PI = "en_PI"
    en_UD = "en_UD"
    en_US = "en_US"
    eo_EO = "eo_EO"
    es_CL = "es_CL"
    es_CO = "es_CO"
    es_ES = "es_ES"
    es_LA = "es_LA"
    es_MX = "es_MX"
    es_VE = "es_VE"
    et_EE = "et_EE"
    eu_ES = "eu_ES"
    fa_IR = "fa_IR"
    fb_LT = "fb_LT"
    ff_NG = "ff_NG"
    fi_FI = "fi_FI"
    fn_IT = "fn_IT"
    fo_FO = "fo_FO"
    fr_CA = "fr_CA"
    fr_FR = "fr_FR"
    fv_NG = "fv_NG"
    fy_NL = "fy_NL"
    ga_IE = "ga_IE"
    gl_ES = "gl_ES"
    gn_PY = "gn_PY"
    gu_IN = "gu_IN"
    gx_GR = "gx_GR"
    ha_NG = "ha_NG"
    he_IL = "he_IL"
    hi_IN = "hi_IN"
    hr_HR = "hr_HR"
    ht_HT = "ht_HT"
    hu_HU = "hu_HU"
    hy_AM = "hy_AM"
    id_ID = "id_ID"
    ig_NG = "ig_NG"
    ik_US = "ik_US"
    is_IS = "is_IS"
    it_IT = "it_IT"
    iu_CA = "iu_CA"
    ja_JP = "ja_JP"
    ja_KS = "ja_KS"
    jv_ID = "jv_ID"
    ka_GE = "ka_GE"
    kk_KZ = "kk_KZ"
    km_KH = "km_KH"
    kn_IN = "kn_IN"
    ko_KR = "ko_KR"
    ks_IN = "ks_IN"
    ku_TR = "ku_TR"
    ky_KG = "ky_KG"
    la_VA = "la_VA"
    lg_UG = "lg_UG"
    li_NL = "li_NL"
    ln_CD = "ln_CD"
    lo_LA = "lo_LA"
    lt_LT = "lt_LT"
    lv_LV = "lv_LV"
    mg_MG = "mg_MG"
    mi_NZ = "mi_NZ"
    mk_MK = "mk_MK"
    ml_IN = "ml_IN"
    mn_MN = "mn_MN"
    mr_IN = "mr_IN"
    ms_MY = "ms_MY"
    mt_MT = "mt_MT"
    my_MM = "my_MM"
    nb_NO = "nb_NO"
    nd_ZW = "nd_ZW"
    ne_NP = "ne_NP"
    nh_MX = "nh_MX"
    nl_BE = "nl_BE"
    nl_NL = "nl_NL"
    nn_NO = "nn_NO"
    nr_ZA = "nr_ZA"
    ns_ZA = "ns_ZA"
    ny_MW = "ny_MW"
    om_ET = "om_ET"
    or_IN = "or_IN"
    pa_IN = "pa_IN"
    pl_PL = "pl_PL"
    ps_AF = "ps_AF"
    pt_BR = "pt_BR"
    pt_PT = "pt_PT"
    qb_DE = "qb_DE"
    qc_GT = "qc_GT"
    qe_US = "qe_US"
    qk_DZ = "qk_DZ"
    qr_GR = "qr_GR"
    qs_DE = "qs_DE"
    qt_US = "qt_US"
    qu_PE = "qu_PE"
    qv_IT = "qv_IT"
    qz_MM = "qz_MM"
    rm_CH = "rm_CH"
    ro_RO = "ro_RO"
    ru_RU = "ru_RU"
    rw_RW = "rw_RW"
    sa_IN = "sa_IN"
    sc_IT = "sc_IT"
    se_NO = "se_NO"
    si_LK = "si_LK"
    sk_SK = "sk_SK"
    sl_SI = "sl_SI"
    sn_ZW = "sn_ZW"
    so_SO = "so_SO"
    sq_AL = "sq_AL"
    sr_RS = "sr_RS"
    ss_SZ = "ss_SZ"
    st_ZA = "st_ZA"
    su_ID = "su_ID"
    sv_SE = "sv_SE"
    sw_KE = "sw_KE"
    sy_SY = "sy_SY"
    sz_PL = "sz_PL"
    ta_IN = "ta_IN"
    te_IN = "te_IN"
    tg_TJ = "tg_TJ"
    th_TH = "th_TH"
    ti_ET = "ti_ET"
    tk_TM = "tk_TM"
    tl_PH = "tl_PH"
    tl_ST = "tl_ST"
    tn_BW = "tn_BW"
    tr_TR = "tr_TR"
    ts_ZA = "ts_ZA"
    tt_RU = "tt_RU"
    tz_MA = "tz_MA"
    uk_UA = "uk_UA"
    ur_PK = "ur_PK"
    uz_UZ = "uz_UZ"
    ve_ZA = "ve_ZA"
    vi_VN = "vi_VN"
    wo_SN = "wo_SN"
    xh_ZA = "xh_ZA"
    yi_DE = "yi_DE"
    yo_NG = "yo_NG"
    zh_CN = "zh_CN"
    zh_HK = "zh_HK"
    zh_TW = "zh_TW"
    zu_ZA = "zu_ZA"
    zz_TR = "zz_TR"


class _Names(Iterable[str], Container[object], Protocol):
    """A container of names that can be iterated."""


_PREFERRED: dict[str, tuple[str, ...]] = {
    "en": ("en_US", "en_GB"),
    "es": ("es_LA", "es_ES", "es_MX"),
    "fr": ("fr_FR", "fr_CA"),
    "nl": ("nl_NL", "nl_BE"),
    "pt": ("pt_BR", "pt_PT"),
    "zh-hans": ("zh_CN", "zh_SG"),
    "zh-hant": ("zh_TW", "zh_HK"),
    "no": ("nb_NO", "nn_NO"),
}
"""Preferred fallbacks by language; a language without a row has one main locale."""

_TRADITIONAL = frozenset({"zh_tw", "zh_hk", "zh_mo", "zh_hant"})

_DJANGO: dict[str, str] = {
    "zh_TW": "zh-hant",
    "zh_HK": "zh-hant",
    "zh_CN": "zh-hans",
    "pt_BR": "pt-br",
    "en_GB": "en-gb",
    "es_MX": "es-mx",
    "es_CO": "es-co",
    "es_VE": "es-ve",
    "cb_IQ": "ckb",
    "tl_PH": "tl",
    "sz_PL": "szl",
    "tz_MA": "zgh",
    "cx_PH": "ceb",
    "fb_LT": "en",
    "ja_KS": "ja",
    "qz_MM": "my",
}
"""Django's language codes of locales whose code is not the language alone."""


def find_locale(locale: FacebookLocale | str | None) -> FacebookLocale | None:
    """Return the member with this name in any spelling (``zh_TW``, ``zh-tw``), otherwise ``None``."""
    return locale if isinstance(locale, FacebookLocale) else _BY_NAME.get(_folded(locale))


def fallbacks(locale: FacebookLocale | str | None, *, among: _Names) -> Iterator[str]:
    """Yield those of the names ``among`` that a reader of the locale understands, the best first.

    The locale itself is first. The preferred locales of its language follow (``zh_TW`` for ``zh_HK``, ``en_US``
    for ``en_GB``), then all others of that language. Simplified and traditional Chinese never replace each other.
    """
    locale_name = locale.name if isinstance(locale, FacebookLocale) else locale
    if not isinstance(locale_name, str) or not locale_name:
        return
    names = {_folded(name): name for name in among}
    language = _language(_folded(locale_name))
    order = dict.fromkeys(
        (_folded(locale_name), *map(_folded, _PREFERRED.get(language, ())), *sorted(names)),
    )
    for name in order:
        if name in names and _language(name) == language:
            yield names[name]


def language_code(locale: FacebookLocale | str | None) -> str | None:
    """Return Django's language code (``zh-hant``, ``pt-br``, ``de``), or ``None`` for an unknown locale."""
    member = find_locale(locale)
    if member is None:
        return None
    return _DJANGO.get(member.name, member.name.partition("_")[0])


def _folded(name: object) -> str:
    return name.replace("-", "_").lower() if isinstance(name, str) else ""


def _language(folded: str) -> str:
    language = folded.partition("_")[0]
    if language == "zh":
        return "zh-hant" if folded in _TRADITIONAL else "zh-hans"
    return "no" if language in {"nb", "nn"} else language


_BY_NAME: dict[str, FacebookLocale] = {_folded(member.name): member for member in FacebookLocale}
