"""Names of units, as data: those that may stand right behind a digit, and those of a measure."""

from __future__ import annotations

import re

GLUED = frozenset(  # units that may stand right behind a digit, or that are one letter long
    re.findall(
        r"\S+",
        "mm cm dm km m in ft yd mi kg mg g lb lbs oz s sec min h hr hrs ms ml mL L l kL mph kmph kph kJ J "
        "kW W V A N Pa kPa Hz K C F cc rad deg th st nd rd am pm sq cu mol eV kcal cal dollars cents",
    )
)
UNITS = {  # the names of a measure, to tell 12 feet from 12 inches
    name: names.split()[0]
    for names in (
        *(
            "inch inches in",
            "foot feet ft",
            "yard yards yd",
            "mile miles mi",
            "mm millimeters",
            "meter meters m",
        ),
        *(
            "cm centimeter centimeters",
            "km kilometers",
            "kg kilograms",
            "gram grams g",
            "pound pounds lb lbs",
        ),
        *("ounce ounces oz", "second seconds s sec", "minute minutes min", "hour hours h hr hrs", "day days"),
        *("week weeks", "month months", "year years", "dollar dollars", "cent cents"),
    )
    for name in names.split()
}
