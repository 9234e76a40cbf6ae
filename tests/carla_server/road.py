"""The map: one straight road with a lane each way, as OpenDRIVE."""

from __future__ import annotations

from typing import Final

from tests.carla_server.structures import Rotation, Transform, Vector

ROAD_METRES: Final = 400.0
"""The road runs from the origin along x."""
LANE_METRES: Final = 3.5
MAP_FOLDER: Final = "Carla/Maps/"
_PROJECTION: Final = "+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
_GAP: Final = 20.0
_MARK: Final = '<roadMark sOffset="0" type="{}" weight="standard" color="white" width="0.15" laneChange="none"/>'
_LANE: Final = (
    '<lane id="{}" type="driving" level="false"><link/>'
    f'<width sOffset="0" a="{LANE_METRES}" b="0" c="0" d="0"/>{_MARK.format("solid")}</lane>'
)


def spawn_points() -> tuple[Transform, ...]:
    """Places for vehicles: on the right-hand lane along x, then on the other, back."""
    count = int(ROAD_METRES / _GAP) - 1
    there = [Transform(Vector(_GAP * (1 + i), LANE_METRES / 2)) for i in range(count)]
    back = [Transform(Vector(_GAP * (1 + i), -LANE_METRES / 2), Rotation(yaw=180.0)) for i in range(count)]
    return (*there, *back)


def opendrive(name: str) -> str:
    """The road's description in XML."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<OpenDRIVE>
 <header revMajor="1" revMinor="4" name="{name}" version="1" north="0" south="0" east="{ROAD_METRES}" west="0">
  <geoReference><![CDATA[{_PROJECTION}]]></geoReference>
 </header>
 <road name="Road 0" length="{ROAD_METRES}" id="0" junction="-1">
  <link/>
  <type s="0" type="town"><speed max="50" unit="km/h"/></type>
  <planView><geometry s="0" x="0" y="0" hdg="0" length="{ROAD_METRES}"><line/></geometry></planView>
  <elevationProfile><elevation s="0" a="0" b="0" c="0" d="0"/></elevationProfile>
  <lateralProfile/>
  <lanes>
   <laneOffset s="0" a="0" b="0" c="0" d="0"/>
   <laneSection s="0">
    <left>{_LANE.format(1)}</left>
    <center><lane id="0" type="none" level="false">{_MARK.format("broken")}</lane></center>
    <right>{_LANE.format(-1)}</right>
   </laneSection>
  </lanes>
 </road>
</OpenDRIVE>
"""
