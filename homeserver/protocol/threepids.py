"""E-mail addresses and telephone numbers in the one form in which they are compared.

# spec: appendices/#3pid-types
"""

from __future__ import annotations

import re

from homeserver.protocol.errors import InvalidParam

EMAIL = "email"
MSISDN = "msisdn"

_MAX_EMAIL = 254  # RFC 5321, 4.5.3.1.3
# What RFC 5322 calls a dot-atom. Quoted local parts exist on paper only, and are where addresses are smuggled in.
_LOCAL = re.compile(r"[0-9a-z!#$%&'*+/=?^_`{|}~-]+(\.[0-9a-z!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)
_DOMAIN = re.compile(r"([0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?\.)+[0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?", re.ASCII)
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_DIGITS = re.compile(r"[1-9][0-9]{6,14}", re.ASCII)  # E.164
_PUNCTUATION = re.compile(r"[\s().\-/\u2010-\u2015\u00a0]")


def canonical_email(text: str) -> str:
    """The address as it is compared, stored and written to: case-folded, an international domain in its ASCII form.

    Mail always goes to this form and never to what was typed: two texts that fold to the same one (`ſ` and `s`, say)
    are different mailboxes, and only one of them is the account's.

    :raises InvalidParam: if it is no address, or its local part is not ASCII even then
    """
    folded = text.strip().casefold()
    local, at, domain = folded.rpartition("@")
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise _no_email() from None
    address = f"{local}{at}{domain}"
    if not _LOCAL.fullmatch(local) or len(local) > 64 or not _DOMAIN.fullmatch(domain) or len(address) > _MAX_EMAIL:
        raise _no_email()
    return address


def canonical_msisdn(text: str) -> str:
    """A number that is given as digits with its country code, with or without `+` and punctuation.

    :returns: the digits alone
    :raises InvalidParam: if it is no such number
    """
    digits = _PUNCTUATION.sub("", text[:64]).removeprefix("+")
    if not _DIGITS.fullmatch(digits):
        raise _no_number()
    return digits


def number_as_dialled(country: str, number: str) -> str:
    """The number that somebody in `country` reaches by dialling `number`, as digits with the country code.

    :param country: a two-letter code of ISO 3166-1
    :raises InvalidParam: for a country that is not known, or if it is no number
    """
    if not _COUNTRY.fullmatch(country):
        raise InvalidParam("country must be a two-letter country code such as UA")
    dialled = _PUNCTUATION.sub("", number[:64])
    if dialled.startswith("+"):
        return canonical_msisdn(dialled)
    code = _CALLING_CODES.get(country.upper())
    if code is None:
        raise InvalidParam("This country is not known here: give the number with + and its country code")
    trunk, outside = _PREFIXES.get(country.upper(), _PREFIXES.get(f"+{code}", ("0", "00")))
    if dialled.startswith(outside):
        return canonical_msisdn(dialled.removeprefix(outside))
    return canonical_msisdn(code + dialled.removeprefix(trunk))


def _no_email() -> InvalidParam:
    return InvalidParam("This is not an e-mail address that can be written to")


def _no_number() -> InvalidParam:
    return InvalidParam("This is not a telephone number")


# Country codes (ITU-T E.164 annex) by ISO 3166-1 alpha-2.
_TABLE = """
AC247 AD376 AE971 AF93 AG1268 AI1264 AL355 AM374 AO244 AR54 AS1684 AT43 AU61 AW297 AX358 AZ994 BA387 BB1246
BD880 BE32 BF226 BG359 BH973 BI257 BJ229 BL590 BM1441 BN673 BO591 BQ599 BR55 BS1242 BT975 BW267 BY375 BZ501
CA1 CC61 CD243 CF236 CG242 CH41 CI225 CK682 CL56 CM237 CN86 CO57 CR506 CU53 CV238 CW599 CX61 CY357 CZ420
DE49 DJ253 DK45 DM1767 DO1 DZ213 EC593 EE372 EG20 EH212 ER291 ES34 ET251 FI358 FJ679 FK500 FM691 FO298 FR33
GA241 GB44 GD1473 GE995 GF594 GG44 GH233 GI350 GL299 GM220 GN224 GP590 GQ240 GR30 GT502 GU1671 GW245 GY592
HK852 HN504 HR385 HT509 HU36 ID62 IE353 IL972 IM44 IN91 IO246 IQ964 IR98 IS354 IT39 JE44 JM1 JO962 JP81
KE254 KG996 KH855 KI686 KM269 KN1869 KP850 KR82 KW965 KY1345 KZ7 LA856 LB961 LC1758 LI423 LK94 LR231 LS266
LT370 LU352 LV371 LY218 MA212 MC377 MD373 ME382 MF590 MG261 MH692 MK389 ML223 MM95 MN976 MO853 MP1670 MQ596
MR222 MS1664 MT356 MU230 MV960 MW265 MX52 MY60 MZ258 NA264 NC687 NE227 NF672 NG234 NI505 NL31 NO47 NP977
NR674 NU683 NZ64 OM968 PA507 PE51 PF689 PG675 PH63 PK92 PL48 PM508 PR1 PS970 PT351 PW680 PY595 QA974 RE262
RO40 RS381 RU7 RW250 SA966 SB677 SC248 SD249 SE46 SG65 SH290 SI386 SJ47 SK421 SL232 SM378 SN221 SO252 SR597
SS211 ST239 SV503 SX1721 SY963 SZ268 TA290 TC1649 TD235 TG228 TH66 TJ992 TK690 TL670 TM993 TN216 TO676 TR90
TT1868 TV688 TW886 TZ255 UA380 UG256 US1 UY598 UZ998 VA39 VC1784 VE58 VG1284 VI1340 VN84 VU678 WF681 WS685
XK383 YE967 YT262 ZA27 ZM260 ZW263
"""
_CALLING_CODES = {entry[:2]: entry[2:] for entry in _TABLE.split()}
_NO_TRUNK_PREFIX = """
IT VA SM ES PT PL CZ DK NO SJ GR CY MT LU LV EE IS FO GL AD MC LI GI MO QA KW BH OM CR PA GT HN NI SV UY CL MX TN CI SN
BJ CM GA HT BZ
"""

# What is dialled inside a country before a national number, and before a country code to reach another country, where
# it is not 0 and 00; by country or by country code. Countries without a trunk prefix have an empty one: a 0 at the
# beginning belongs to the number there.
_PREFIXES: dict[str, tuple[str, str]] = {
    **{code: ("1", "011") for code, number in _CALLING_CODES.items() if number[0] == "1"},
    **dict.fromkeys(("+7", "BY", "TM"), ("8", "810")),
    "UZ": ("", "00"),
    "TJ": ("", "810"),
    "HU": ("06", "00"),
    "AU": ("0", "0011"),
    "JP": ("0", "010"),
    "SG": ("", "000"),
    "HK": ("", "001"),
    "TH": ("0", "001"),
    "ID": ("0", "001"),
    "KH": ("0", "001"),
    "KE": ("0", "000"),
    "UG": ("0", "000"),
    "TZ": ("0", "000"),
    "CO": ("", "009"),
    **dict.fromkeys(_NO_TRUNK_PREFIX.split(), ("", "00")),
}
